"""The real commands as subprocesses, on the stand-in that needs no download."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time

import jax
import numpy as np
import pytest
from helpers import command, environment
from PIL import Image

from cifar_jax import checkpoints, load_data, summaries

SMALL = ("--dataset=digits", "--batch_size=8", "--train_dir=run")


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    """A folder with a finished run of 20 steps in `run`, and its log."""
    folder = tmp_path_factory.mktemp("digits")
    log = subprocess.run(
        command("train", *SMALL, "--max_steps=20", "--validation_size=97"),
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return folder, log.stdout


@contextlib.contextmanager
def started(folder, name, *arguments):
    """A command at work, killed at the end if it still is."""
    process = subprocess.Popen(
        command(name, *arguments),
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen, text: str) -> list[str]:
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    pytest.fail(f"{text!r} never came: {lines} {process.stderr.read()}")


def files_of(checkpoint) -> dict[str, bytes]:
    return {
        str(path.relative_to(checkpoint)): path.read_bytes()
        for path in checkpoint.rglob("*")
        if path.is_file()
    }


def state_of(folder, step):
    """The arrays of a run's checkpoint."""
    from cifar_jax import load_trained, read_run

    network = load_trained(read_run(folder), step, raw_params=True)
    average = load_trained(read_run(folder), step)
    trees = (network.variables, average.variables)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(trees)]


def assert_one_line(result, status: int, *words: str):
    assert result.returncode == status, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in lines[0]


def test_train_says_what_it_does(digits_run):
    folder, log = digits_run
    lines = log.splitlines()
    assert lines[0].startswith("digits: 1400 training and 300 test images from ")
    # The banner, at the start and at the end.
    assert log.count("say nothing about CIFAR-10") == 2
    steps = [int(m[1]) for m in re.finditer(r": step (\d+), loss = ", log)]
    assert steps == [0, 10]
    assert "saved run/checkpoints/20" in log
    assert lines[-1] == "next: python -m cifar_jax.eval --checkpoint_dir=run"
    assert checkpoints.steps(folder / "run" / "checkpoints") == [20]
    assert [r["step"] for r in summaries.read(folder / "run" / "train.jsonl")] == [0]
    config = json.loads((folder / "run" / "config.json").read_text())
    assert config["config"]["validation_size"] == 97
    assert config["data"]["fingerprint"] == load_data("digits").fingerprint


def test_train_again_has_nothing_to_do(digits_run, run_command):
    folder, _ = digits_run
    result = run_command(
        "train", *SMALL, "--max_steps=20", "--validation_size=97", cwd=folder
    )
    assert result.returncode == 0
    assert "nothing to do" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bach_size=3"], ["Unknown command line flag", "batch_size"]),
        (["--batch_size=many"], ["--batch_size=many"]),
        (["--batch_size=0"], ["--batch_size=0", "at least 1"]),
        (["--batch_size=1498", "--dataset=digits"], ["larger than", "1497 images"]),
        (["--validation_size=1497", "--dataset=digits"], ["--validation_size=1497"]),
        (["--max_steps=-5"], ["--max_steps=-5"]),
        (["--dataset=imagenet"], ["choose from auto, cifar10, digits"]),
        (["steps"], ["unexpected argument 'steps'"]),
        (["--train_dir=/proc/run", "--dataset=digits"], ["--train_dir=/proc/run"]),
        (["--train_dir=/dev/null", "--dataset=digits"], ["--train_dir=/dev/null"]),
        (["--data_dir=/dev/null"], ["--data_dir=/dev/null"]),
    ],
)
def test_bad_flags_are_told_in_one_line(run_command, tmp_path, arguments, words):
    assert_one_line(run_command("train", *arguments), 2, *words)
    assert not (tmp_path / "cifar10_train").exists()


@pytest.mark.parametrize("name", ["train", "eval", "predict"])
def test_help(run_command, name):
    result = run_command(name, "--help")
    assert result.returncode == 0
    assert f"python -m cifar_jax.{name}" in result.stdout
    assert "--batch_size" in result.stdout or name == "predict"
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("signum", "status"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_the_run_goes_on_to_the_same_end(
    digits_run, tmp_path, run_command, signum, status
):
    finished, _ = digits_run
    flags = (*SMALL, "--validation_size=97", "--log_frequency=1")
    with started(tmp_path, "train", *flags, "--max_steps=1000000") as process:
        read_until(process, "step 3,")
        process.send_signal(signum)
        rest, errors = process.communicate(timeout=120)
        assert process.returncode == status, errors
    (step,) = checkpoints.steps(tmp_path / "run" / "checkpoints")
    assert step >= 4
    assert f"saved run/checkpoints/{step}" in rest
    if step > 20:
        pytest.skip(f"the machine was too slow to stop before step 20: {step}")
    result = run_command("train", *flags, "--max_steps=20")
    assert result.returncode == 0, result.stderr
    assert f"resumed from step {step}" in result.stdout
    for a, b in zip(
        state_of(tmp_path / "run", 20), state_of(finished / "run", 20), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_killed_at_any_time_it_resumes_from_what_was_whole(digits_run, tmp_path):
    """SIGKILL while every step saves a checkpoint, so that some die in a save."""
    finished, _ = digits_run
    flags = (*SMALL, "--validation_size=97", "--log_frequency=1", "--max_steps=20")
    for kill, delay in enumerate((0.0, 0.05, 0.11)):
        saving = (*flags, "--save_interval_secs=0")
        with started(tmp_path, "train", *saving) as process:
            read_until(process, f"saved run/checkpoints/{2 + 4 * kill}")
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
    with started(tmp_path, "train", *flags) as process:
        log, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert int(re.search(r"resumed from step (\d+)", log)[1]) >= 10
    for a, b in zip(
        state_of(tmp_path / "run", 20), state_of(finished / "run", 20), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_two_trainings_on_one_train_dir(tmp_path, run_command):
    with started(tmp_path, "train", *SMALL, "--log_frequency=1") as process:
        read_until(process, "step 1,")
        second = run_command("train", *SMALL)
        assert_one_line(second, 2, "another training", str(process.pid))


def test_a_conflicting_config_is_refused_before_data_are_loaded(
    digits_run, run_command
):
    folder, _ = digits_run
    before = files_of(folder / "run")
    result = run_command(
        "train", "--train_dir=run", "--batch_size=9", "--seed=4", cwd=folder
    )
    words = ["batch_size: 8 there, 9 now", "seed: 0 there, 4 now", "validation_size"]
    assert_one_line(result, 2, *words)
    assert files_of(folder / "run") == before


def test_divergence_is_a_failed_run(run_command):
    result = run_command("train", *SMALL, "--learning_rate=1e25")
    assert_one_line(result, 1, "diverged at step", "1e+25", "nothing was saved")


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over_and_said(
    digits_run, tmp_path, run_command
):
    flags = (*SMALL, "--log_frequency=1", "--save_interval_secs=0")
    assert run_command("train", *flags, "--max_steps=3").returncode == 0
    newest = tmp_path / "run" / "checkpoints" / "3"
    largest = max(newest.rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    result = run_command("train", *flags, "--max_steps=4")
    assert result.returncode == 0, result.stderr
    assert (
        f"run/checkpoints/3 is damaged: {largest.relative_to(newest)}" in result.stderr
    )
    assert "resumed from step 2" in result.stdout


def test_stdout_may_close(tmp_path):
    with started(tmp_path, "train", *SMALL, "--log_frequency=1") as process:
        read_until(process, "step 1,")
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("data", "count"), [("test", 300), ("train_eval", 1400), ("validation", 97)]
)
def test_eval_counts_every_image_of_the_split(digits_run, run_command, data, count):
    folder, _ = digits_run
    result = run_command(
        "eval", "--checkpoint_dir=run", f"--eval_data={data}", cwd=folder
    )
    assert result.returncode == 0, result.stderr
    assert (
        f"step 20 of run, averaged parameters, {count} images of {data}"
        in result.stdout
    )
    found = re.search(
        r"\d{4}-\d\d-\d\d [\d:.]{15}: precision @ 1 = (\d\.\d{3})\n", result.stdout
    )
    (record,) = summaries.read(folder / "run" / "eval" / f"{data}.jsonl")
    assert record["num_examples"] == count
    assert f"{record['Precision @ 1']:.3f}" == found[1]
    assert (record["Precision @ 1"] * count) % 1 == pytest.approx(0, abs=1e-6)
    assert list((folder / "run" / "eval").glob(f"events.out.tfevents.*.{data}"))


def test_eval_of_some_images_and_raw_parameters(digits_run, run_command, tmp_path):
    folder, _ = digits_run
    result = run_command(
        "eval",
        *("--checkpoint_dir=run", "--num_examples=33", "--raw_params"),
        f"--eval_dir={tmp_path}/elsewhere",
        cwd=folder,
    )
    assert "raw parameters, 33 images of test" in result.stdout
    (record,) = summaries.read(tmp_path / "elsewhere" / "test_raw.jsonl")
    assert record["num_examples"] == 33


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--checkpoint_dir=nowhere"], ["no run in nowhere", "train first"]),
        (["--eval_data=all"], ["--eval_data", "validation"]),
        (["--batch_size=0"], ["--batch_size"]),
        (["--num_examples=-1"], ["--num_examples"]),
    ],
)
def test_eval_refuses(run_command, arguments, words):
    assert_one_line(run_command("eval", *arguments), 2, *words)


@pytest.mark.slow
def test_eval_before_the_first_checkpoint(tmp_path, run_command):
    with started(tmp_path, "train", *SMALL) as process:
        read_until(process, "step 0,")
        result = run_command("eval", "--checkpoint_dir=run")
        assert_one_line(result, 2, "no checkpoint in run yet")


@pytest.mark.slow
def test_eval_follows_a_training_to_its_end(tmp_path):
    """Started first, it waits; every checkpoint is evaluated once."""
    following = ("--checkpoint_dir=run", "--run_once=False", "--eval_interval_secs=0")
    with started(tmp_path, "eval", *following) as follower:
        read_until(follower, "waiting for a training to begin in run")
        flags = (*SMALL, "--max_steps=31", "--save_interval_secs=0")
        with started(tmp_path, "train", *flags) as training:
            assert training.wait(timeout=300) == 0
            saved = [
                int(s) for s in re.findall(r"saved \S+/(\d+)", training.stdout.read())
            ]
        log, errors = follower.communicate(timeout=300)
        assert follower.returncode == 0, errors
    evaluated = [int(m[1]) for m in re.finditer(r"step (\d+) of run", log)]
    # Of those that were gone before it looked, nothing is known.
    assert len(evaluated) >= min(len(saved), checkpoints.KEPT)
    assert evaluated == sorted(set(evaluated) & set(saved))
    assert evaluated[-1] == 31
    assert log.count("precision @ 1 = ") == len(evaluated)
    records = summaries.read(tmp_path / "run" / "eval" / "test.jsonl")
    assert [record["step"] for record in records] == evaluated


def test_predict_prints_a_table(digits_run, run_command, tmp_path):
    folder, _ = digits_run
    images = load_data("digits").test.images
    for i in range(2):
        Image.fromarray(images[i]).save(tmp_path / f"{i}.png")
    flags = ("predict", f"--checkpoint_dir={folder}/run")
    result = run_command(*flags, "0.png", "1.png", "--top=2")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [lines[0], lines[3]] == ["0.png", "1.png"]
    assert all(re.fullmatch(r"  \d +\d+\.\d\d%  #*", lines[i]) for i in (1, 2, 4, 5))

    as_json = json.loads(run_command(*flags, "--json", "0.png", "1.png").stdout)
    from cifar_jax import classify, load_trained, read_run

    expected = classify(load_trained(read_run(folder / "run")), images[:2])
    for record, probabilities in zip(as_json, expected, strict=True):
        assert list(record["probabilities"]) == sorted(
            record["probabilities"], key=record["probabilities"].get, reverse=True
        )
        for label, probability in record["probabilities"].items():
            assert probability == pytest.approx(probabilities[int(label)], rel=1e-6)


def test_predict_from_stdin(digits_run, tmp_path):
    folder, _ = digits_run
    Image.new("RGB", (50, 40), "red").save(tmp_path / "red.png")
    with (tmp_path / "red.png").open("rb") as picture:
        result = subprocess.run(
            command("predict", "--checkpoint_dir=run", "-"),
            stdin=picture,
            cwd=folder,
            env=os.environ,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("stdin\n")


def test_predict_answers_for_the_readable_pictures(digits_run, run_command, tmp_path):
    folder, _ = digits_run
    Image.new("L", (1, 1)).save(tmp_path / "dot.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "empty.png").write_text("")
    flags = ("predict", f"--checkpoint_dir={folder}/run")
    result = run_command(*flags, "notes.txt", "dot.png", "empty.png", "missing.png")
    assert result.returncode == 2
    assert result.stdout.startswith("dot.png\n")
    for name in ("notes.txt", "empty.png", "missing.png"):
        assert f"{name}" in result.stderr
    assert "Traceback" not in result.stderr


def test_predict_without_a_picture_or_a_run(run_command):
    assert_one_line(run_command("predict"), 2, "no picture given")
    result = run_command("predict", "x.png")
    assert_one_line(result, 2, "no run in cifar10_train")
