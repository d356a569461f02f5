"""Tests the compare command on the stand-in data, which need no download."""

import json
import shutil

import pytest
from helpers import assert_one_line, files_of
from PIL import Image

from cifar_jax.runs import checkpoints
from cifar_jax.writers import Summary, Writers


@pytest.fixture(scope="module")
def runs(digits_run, tmp_path_factory):
    """Returns a folder with a run `one`, and `two`, which has been evaluated.

    Their seeds, pixels and speeds differ. No test changes them.
    """
    folder = tmp_path_factory.mktemp("runs")
    one = shutil.copytree(digits_run / "run", folder / "one")
    two = shutil.copytree(digits_run / "run", folder / "two")
    config = json.loads((two / "config.json").read_text())
    del config["sha256"]
    config["config"]["seed"] = 5
    config["data"]["fingerprint"] = "ab" * 32
    (two / "config.json").write_text(json.dumps(config))
    for run, speed in ((one, 10), (two, 20)):
        with Writers("jsonl", run) as writers:
            scalars = {"total_loss": 3, "global_step/sec": speed}
            writers.write(Summary("train", 10, scalars))
    with Writers("jsonl", two) as writers:
        counts = {"num_examples": 300, "examples_in_split": 300}
        writers.write(Summary("eval/test", 20, {"precision_at_1": 0.25}, counts))
    return folder


def test_the_real_command(runs, run_command):
    result = run_command("compare", "one", "two", "--plot=a/b.png", cwd=runs)
    assert result.returncode == 0, result.stderr
    table, notes = result.stdout.split("\n\n")
    words = [line.split() for line in table.splitlines()]
    assert words[:2] == [["one", "two", "*"], ["seed", "0", "5"]]
    assert ["steps", "20", "20"] in words
    assert ["examples/s", "80", "160"] in words
    assert ["test", "precision", "-", "0.250"] in words
    assert "two *: trained on different pixels than one" in notes
    assert "one: not evaluated at step 20:\n" in notes
    assert "  python -m cifar_jax.eval --checkpoint_dir=one\n" in notes
    assert notes.endswith("curves plotted in a/b.png\n")
    with Image.open(runs / "a" / "b.png") as picture:
        picture.load()


def test_everything_as_json(runs, call_command):
    flags = ("--json", "--plot=curves.svg")
    result = call_command("compare", "one", "two", *flags, cwd=runs)
    assert result.returncode == 0, result.stderr
    one, two = json.loads(result.stdout)
    assert (one["run"], one["settings"], one["saved"]) == ("one", {"seed": 0}, 20)
    assert one["evaluations"] == {"test": None, "validation": None}
    assert two["other_pixels"]
    assert two["evaluations"]["test"]["last"]["num_examples"] == 300
    assert two["loss"]["steps"] == list(range(20))  # every line of the log
    assert "<svg" in (runs / "curves.svg").read_text()


def test_only_the_plot_is_written_and_only_over_a_plot(runs, call_command, tmp_path):
    before = files_of(runs / "one")
    for name in ("curves.png", "curves.svg"):
        for _ in range(2):  # An earlier plot may be replaced.
            result = call_command("compare", runs / "one", f"--plot={name}")
            assert result.returncode == 0, result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"curves.png", "curves.svg"}
    assert files_of(runs / "one") == before
    (tmp_path / "mine.png").write_text("mine")
    result = call_command("compare", runs / "one", "--plot=mine.png")
    assert_one_line(result, 2, "--plot=mine.png was not written by")
    assert (tmp_path / "mine.png").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["no run given: python -m cifar_jax.compare RUN..."]),
        (["one", "nowhere"], ["no run in nowhere"]),
        (["one/config.json"], ["no run in one/config.json"]),
        (["one", "./one/"], ["one and ./one/ are the same run; name it once"]),
        (["x" * 300], ["File name too long"]),
        (["two\nlines"], [r"no run in two\nlines"]),
        (["one", "--plot=curves.jpg"], ["--plot=curves.jpg must end in .png or .svg"]),
        (["one", "--plot="], ["must end in"]),
        (["one", "--plot=/dev/null/x.png"], ["--plot=/dev/null", "Not a directory"]),
        (["one", f"--plot={'x' * 300}.png"], ["--plot=xxx", "File name too long"]),
        (["r"] * 9 + ["--plot=x.png"], ["can show at most 8 runs, but there are 9"]),
        (["one", "--json=maybe"], ["--json"]),
    ],
)
def test_unusable_arguments_are_reported_on_one_line(
    runs, call_command, arguments, words
):
    before = files_of(runs)
    result = call_command("compare", *arguments, cwd=runs)
    assert_one_line(result, 2, *words)
    assert result.stdout == ""
    assert files_of(runs) == before


def test_a_damaged_run_is_reported_on_one_line(runs, call_command, tmp_path):
    run = shutil.copytree(runs / "two", tmp_path / "run")
    path = run / "eval" / "test.jsonl"
    path.write_text(path.read_text().replace("precision_at_1", "precision_at_7"))
    result = call_command("compare", "run")
    assert_one_line(result, 2, "test.jsonl is damaged: its line 1 does not match")
    (run / "config.json").write_text("{")
    assert_one_line(call_command("compare", "run"), 2, "config.json is damaged")


def test_a_plot_that_cannot_be_written_is_a_failure(runs, call_command, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cifar_jax.evaluation.plot_files.write_atomically", fail)
    result = call_command("compare", runs / "one", "--plot=x.png")
    assert_one_line(result, 1, "cannot write --plot=x.png: No space left on device")


def test_a_run_that_cannot_be_listed_is_reported(runs, call_command, monkeypatch):
    def fail(path, run_id):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(checkpoints, "steps", fail)
    result = call_command("compare", "one", cwd=runs)
    assert_one_line(result, 2, "cannot read one/checkpoints: Permission denied")
