"""Tests the predict command on the stand-in data, which need no download."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from helpers import assert_one_line, command, environment
from PIL import Image

from cifar_jax import (
    classify,
    load_data,
    load_trained,
    predict,
    read_run,
)
from cifar_jax.data.cifar import cifar10


@pytest.fixture
def pictures(tmp_path):
    """Saves two digits as files in the working directory of the commands."""
    images = load_data("digits").test.images[:2]
    for i in range(2):
        Image.fromarray(images[i]).save(tmp_path / f"{i}.png")
    return images


@pytest.fixture
def flag(digits_run):
    return f"--checkpoint_dir={digits_run / 'run'}"


def test_the_real_command_prints_a_table_for_people(pictures, flag, tmp_path):
    """It also reads from a pipe, and names a file that the terminal cannot show."""
    (tmp_path / "1.png").rename(tmp_path / "é.png")
    words = command("predict", flag, "-", "é.png", "--top=2")
    result = subprocess.run(
        ["bash", "-c", '"$@" < 0.png', "bash", *words],
        cwd=tmp_path,
        env=environment(tmp_path) | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [lines[0], lines[3]] == ["stdin", r"\xe9.png"]
    assert all(re.fullmatch(r"  \d +\d+\.\d\d%  #*", lines[i]) for i in (1, 2, 4, 5))
    assert re.fullmatch(
        r"step 20 of \S+, averaged parameters; trained on scikit-learn's 8x8 .*\n",
        result.stderr,
    )


def test_without_a_standard_input(flag, call_command, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)  # what Python does if it is closed
    assert_one_line(call_command("predict", flag, "-"), 2, "standard input is closed")


def test_all_classes_as_json(pictures, flag, digits_run, call_command):
    result = call_command("predict", flag, "--json", "0.png", "1.png")
    assert result.returncode == 0, result.stderr
    expected = classify(load_trained(read_run(digits_run / "run")), pictures)
    for record, probabilities in zip(json.loads(result.stdout), expected, strict=True):
        found = record["probabilities"]
        assert list(found) == sorted(found, key=found.get, reverse=True)
        assert record["step"] == 20
        for label, probability in found.items():
            assert probability == pytest.approx(probabilities[int(label)], rel=1e-6)


def test_the_readable_pictures_get_their_answer(flag, call_command, tmp_path):
    for name in ("dot.png", "two\nlines.png", "not\udcffutf8.png"):
        Image.new("L", (1, 1)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "empty.png").write_text("")
    os.mkfifo(tmp_path / "fifo.png")
    bad = ("notes.txt", "empty.png", "missing.png", "fifo.png", "x" * 300)
    good = ("dot.png", "two\nlines.png", "not\udcffutf8.png")
    result = call_command("predict", flag, *bad, *good)
    assert result.returncode == 2
    names = [line for line in result.stdout.splitlines() if line[:1] != " "]
    assert names == ["dot.png", r"two\nlines.png", r"not\udcffutf8.png"]
    for name in bad:
        assert result.stderr.count(name) >= 1
    assert result.stderr.count("error: ") == len(bad)
    assert "Traceback" not in result.stderr


def test_without_a_picture(call_command):
    assert_one_line(call_command("predict"), 2, "no image file given")


def test_without_a_run_the_network_of_the_package_is_used(call_command, tmp_path):
    Image.new("RGB", (40, 30), "blue").save(tmp_path / "sky.png")
    result = call_command("predict", "sky.png", "--json")
    assert result.returncode == 0, result.stderr
    assert result.stderr == (
        "the bundled network, airbench94, as no run was named and cifar10_train has "
        "none\n"
    )
    (record,) = json.loads(result.stdout)
    assert record["weights"].endswith("airbench94.safetensors")
    assert record["probabilities"].keys() == set(cifar10.LABELS.class_names)


@pytest.mark.parametrize("flag", ["--checkpoint_dir=cifar10_train", "--best"])
def test_a_run_that_is_asked_for_must_be_there(flag, call_command):
    result = call_command("predict", flag, "x.png")
    assert_one_line(result, 2, "no run in cifar10_train")


def test_a_run_in_the_default_place_comes_first(
    pictures, digits_run, call_command, tmp_path
):
    shutil.copytree(digits_run / "run", tmp_path / "cifar10_train")
    result = call_command("predict", "0.png")
    assert result.stderr.startswith("step 20 of cifar10_train, averaged parameters")


def test_folders_and_patterns(flag, call_command, tmp_path):
    for name in ("b/2.png", "b/c/1.png", "a.png", "b/.hidden/3.png", "d/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name, "PNG")
    result = call_command("predict", flag, "b", "*.png", "d", "*.jpg")
    assert result.returncode == 2
    names = [line for line in result.stdout.splitlines() if line[:1] != " "]
    assert names == ["b/2.png", "b/c/1.png", "a.png"]
    assert result.stderr.splitlines()[:2] == [
        "error: there are no pictures in d",
        "error: there are no pictures in *.jpg",
    ]


def test_show_draws_the_first_pictures(
    pictures, flag, call_command, tmp_path, monkeypatch
):
    monkeypatch.setattr(predict, "MOST_DRAWN", 2)
    for i in range(3):
        shutil.copy(tmp_path / "0.png", tmp_path / f"copy{i}.png")
    before = set(tmp_path.iterdir())
    for words, done, height in (
        (["0.png"], "drawn in predictions.png", 297),
        (["copy*.png"], "the first 2 are drawn in predictions.png", 539),
    ):
        result = call_command("predict", flag, "--show", *words)
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines()[-1] == done
        with Image.open(tmp_path / "predictions.png") as picture:
            assert picture.height == height
    assert set(tmp_path.iterdir()) - before == {tmp_path / "predictions.png"}


def test_show_overwrites_no_picture(pictures, flag, call_command, tmp_path):
    before = (tmp_path / "0.png").read_bytes()
    result = call_command("predict", flag, "--show", "--out=0.png", "1.png")
    assert_one_line(result, 2, "--out=0.png was not written by python -m cifar_jax.pre")
    assert (tmp_path / "0.png").read_bytes() == before
    result = call_command("predict", flag, "--show", "--out=new", "1.png")
    assert_one_line(result, 2, "--out=new must end in .png or .svg")


def test_show_with_json_prints_only_json(pictures, flag, call_command, tmp_path):
    words = ("--show", "--json", "--out=new/p.svg", "0.png")
    result = call_command("predict", flag, *words)
    assert len(json.loads(result.stdout)) == 1
    assert "<svg" in (tmp_path / "new" / "p.svg").read_text()


def test_an_older_checkpoint_is_used_with_the_reason(
    digits_run, pictures, call_command, tmp_path
):
    run = shutil.copytree(digits_run / "run", tmp_path / "run")
    newer = shutil.copytree(run / "checkpoints" / "20", run / "checkpoints" / "40")
    (newer / "SHA256SUMS").unlink()
    result = call_command("predict", "--checkpoint_dir=run", "0.png")
    assert result.returncode == 0, result.stderr
    warning, step = result.stderr.splitlines()
    assert warning == (
        "warning: checkpoint run/checkpoints/40 is damaged: it has no SHA256SUMS; "
        "using the previous one instead"
    )
    assert step.startswith("step 20 of run")
