"""Tests the train command on the stand-in data, which need no download."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time

import pytest
from helpers import (
    DIGITS,
    assert_equal_states,
    assert_one_line,
    command,
    damages,
    environment,
    files_of,
    read_until,
    started,
    state_of,
)

from cifar_jax import load_data
from cifar_jax.devices import cpu
from cifar_jax.runs import checkpoints
from cifar_jax.writers import jsonl as summaries


def test_train_says_what_it_does(digits_run):
    log = (digits_run / "log.txt").read_text()
    lines = log.splitlines()
    assert lines[0].startswith("digits: 1400 training and 300 test images from ")
    # The banner is printed at the start and at the end.
    assert log.count("say nothing about CIFAR-10") == 2
    assert "this may take a minute; later starts are quick" in log
    steps = [int(m[1]) for m in re.finditer(r": step (\d+), loss = ", log)]
    assert steps == list(range(20))
    assert "saved run/checkpoints/20" in log
    assert lines[-1] == "next: python -m cifar_jax.eval --checkpoint_dir=run"
    run = digits_run / "run"
    assert checkpoints.steps(run / "checkpoints") == [20]
    assert [r["step"] for r in summaries.read_training(run / "train.jsonl")] == [0]
    config = json.loads((run / "config.json").read_text())
    assert config["config"]["validation_size"] == 97
    assert config["data"]["fingerprint"] == load_data("digits").fingerprint
    assert config["data"]["official"] is False


def test_train_says_what_keeps_bfloat16_from_being_fast(call_command, monkeypatch):
    monkeypatch.setattr(cpu, "bfloat16_notice", lambda: "a slow processor")
    flags = ("--model=small", "--max_steps=1", "--train_dir=")
    said = [
        "a slow processor" in call_command("train", *DIGITS, *flags, *more).stdout
        for more in ([], ["--use_fp16"])
    ]
    assert said == [False, True]


def test_train_again_has_nothing_to_do(digits_run, call_command):
    before = files_of(digits_run / "run")
    result = call_command("train", *DIGITS, "--max_steps=20", cwd=digits_run)
    assert result.returncode == 0, result.stderr
    assert "nothing to do" in result.stdout
    after = files_of(digits_run / "run")
    assert after.pop(".lock") == f"{os.getpid()}\n".encode()
    before.pop(".lock")
    # Other tests may evaluate this run at the same time.
    assert {k: v for k, v in after.items() if not k.startswith("eval")} == {
        k: v for k, v in before.items() if not k.startswith("eval")
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bach_size=3"], ["Unknown command line flag", "batch_size"]),
        (["--batch_size=many"], ["--batch_size=many"]),
        (["--batch_size=0"], ["--batch_size=0", "at least 1"]),
        (["--batch_size=1498", "--dataset=digits"], ["larger than", "1497 images"]),
        (["--validation_size=1497", "--dataset=digits"], ["--validation_size=1497"]),
        (["--max_steps=-5"], ["--max_steps=-5"]),
        (["--log_frequency=9223372036854775808"], ["at most 2147483647"]),
        (["--dataset=imagenet"], ["choose from auto, cifar10, cifar100, digits"]),
        (["--data_parallel=towers"], ["choose from jit, pmap"]),
        (["--learning_rate_drops=0.5,x"], ["0.5,x is not a list of numbers"]),
        (["--learning_rate_drops=0.5,0.5"], ["--learning_rate_drops=0.5,0.5 must"]),
        (["--metrics=grad_norms"], ["grad_norms is unknown", "update_norm"]),
        (["--writers=csv"], ["csv is unknown; choose from jsonl, tensorboard, wandb"]),
        (["--writers=wandb(runs=1)"], ["wandb(project='cifar_jax', entity=None)"]),
        (["steps"], ["unexpected argument 'steps'"]),
        (["--train_dir=/proc/run"], ["--train_dir=/proc/run"]),
        (["--train_dir=/dev/null"], ["--train_dir=/dev/null", "Not a directory"]),
        ([f"--train_dir={'x' * 300}"], ["File name too long"]),
        ([f"--train_dir=new/{'x' * 300}"], ["File name too long"]),
        (["--train_dir=two\nlines"], [r"two\nlines", "unprintable characters"]),
        (["--train_dir=not\udcffutf8"], [r"not\udcffutf8", "unprintable characters"]),
        (["--data_dir=/dev/null"], ["--data_dir=/dev/null"]),
        (["--data_dir=~nobody-of-this-name"], ["--data_dir=~nobody-of-this-name"]),
        (["--compilation_cache=~nobody-of-this-name"], ["the compilation cache ~nob"]),
    ],
)
def test_unusable_arguments_are_reported_on_one_line(
    call_command, tmp_path, arguments, words
):
    assert_one_line(call_command("train", *arguments), 2, *words)
    assert list(tmp_path.iterdir()) == []


def test_train_dir_is_tried_before_data_are_loaded(call_command, monkeypatch):
    monkeypatch.setattr("cifar_jax.data.load", lambda *_, **__: pytest.fail("loaded"))
    assert_one_line(call_command("train", "--train_dir=/dev/null/x"), 2, "/dev/null/x")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to(path)])
def test_train_dir_that_cannot_be_a_folder(call_command, tmp_path, make):
    make(tmp_path / "run")
    assert_one_line(call_command("train", *DIGITS), 2, "--train_dir=run")


def test_a_lock_that_is_a_folder(call_command, tmp_path):
    (tmp_path / "run" / ".lock").mkdir(parents=True)
    assert_one_line(call_command("train", *DIGITS), 2, "--train_dir=run (.lock)")


@pytest.mark.slow
def test_signals_save_and_the_resumed_run_ends_the_same(
    digits_run, tmp_path, run_command
):
    step = 0
    for signum, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with started(tmp_path, "train", *DIGITS, "--max_steps=1000000") as process:
            lines = read_until(process, f"step {step + 3},")
            process.send_signal(signum)
            rest, errors = process.communicate(timeout=120)
            assert process.returncode == status, errors
        assert any(f"resumed from step {step}" in line for line in lines) == (step > 0)
        before, step = step, checkpoints.steps(tmp_path / "run" / "checkpoints")[-1]
        assert step >= before + 4
        assert f"saved run/checkpoints/{step}" in rest
        assert errors == (
            f"error: stopped by {signum.name} before step {step}; saved "
            f"run/checkpoints/{step}; run the same command to continue from it\n"
        )
    # On a slow machine the signal arrives late; both runs then train a bit further.
    end, finished = 20, digits_run
    if step >= end:
        end, finished = step + 3, tmp_path / "other"
        finished.mkdir()
        run_command("train", *DIGITS, f"--max_steps={end}", cwd=finished)
    result = run_command("train", *DIGITS, f"--max_steps={end}")
    assert result.returncode == 0, result.stderr
    assert f"resumed from step {step}" in result.stdout
    assert_equal_states(
        state_of(tmp_path / "run", end), state_of(finished / "run", end)
    )


@pytest.mark.parametrize(
    ("name", "delay"),
    [("train", 0.5), ("train", 1.0), ("eval", 0.5), ("predict", 1.0)],
)
def test_a_signal_at_the_start_ends_with_one_line(tmp_path, name, delay):
    """A Ctrl-C during the seconds of imports is not lost and causes no traceback.

    Python itself takes some hundredths of a second before it reads the first line.
    """
    with started(tmp_path, name, *DIGITS[:1] if name == "train" else ["-"]) as process:
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    if process.returncode == 130:
        assert errors == "error: stopped by SIGINT\n"
    else:  # The command was faster and refused its arguments.
        assert process.returncode == 2
        assert errors.count("\n") == 1


@pytest.mark.slow
def test_a_killed_training_resumes_from_a_complete_checkpoint(digits_run, tmp_path):
    """Every step saves a checkpoint, so that some SIGKILLs arrive during a save."""
    flags = ("train", *DIGITS, "--max_steps=20")
    for kill, delay in enumerate((0.0, 0.05, 0.11)):
        with started(tmp_path, *flags, "--save_interval_secs=0") as process:
            read_until(process, f"saved run/checkpoints/{2 + 4 * kill}")
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
    with started(tmp_path, *flags) as process:
        log, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert int(re.search(r"resumed from step (\d+)", log)[1]) >= 10
    assert_equal_states(
        state_of(tmp_path / "run", 20), state_of(digits_run / "run", 20)
    )


@pytest.mark.slow
def test_a_start_that_is_stopped_while_it_compiles_leaves_the_folder_free(
    tmp_path, call_command
):
    with started(tmp_path, "train", *DIGITS) as process:
        read_until(process, "compiling for")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (130, "error: stopped by SIGINT\n")
    # Writers have begun, so that one that cannot is known before the long compilation.
    left = {
        p.name.split(".")[0] for p in (tmp_path / "run").iterdir() if p.name != ".lock"
    }
    assert left <= {"events"}
    other = call_command("train", *DIGITS, "--seed=1", "--max_steps=2")
    assert other.returncode == 0, other.stderr


@pytest.mark.slow
def test_two_trainings_on_one_train_dir_and_eval_before_a_checkpoint(
    tmp_path, call_command
):
    with started(tmp_path, "train", *DIGITS) as process:
        read_until(process, "step 1,")
        second = call_command("train", *DIGITS)
        assert_one_line(second, 2, "another training run", str(process.pid))
        early = call_command("eval", "--checkpoint_dir=run")
        assert_one_line(early, 2, "no checkpoint in run yet")


def test_a_conflicting_config_is_refused_before_data_are_loaded(
    digits_run, call_command, monkeypatch
):
    monkeypatch.setattr("cifar_jax.data.load", lambda *_, **__: pytest.fail("loaded"))
    before = (digits_run / "run" / "config.json").read_bytes()
    result = call_command(
        "train", "--train_dir=run", "--batch_size=9", "--seed=4", cwd=digits_run
    )
    words = ["batch_size: 8 there, 9 now", "seed: 0 there, 4 now", "validation_size"]
    assert_one_line(result, 2, *words)
    assert (digits_run / "run" / "config.json").read_bytes() == before


def test_divergence_is_a_failed_run(call_command):
    result = call_command("train", *DIGITS, "--model=small", "--learning_rate=1e35")
    assert_one_line(result, 1, "diverged at step", "1e+35", "nothing was saved")


def test_a_damaged_checkpoint_is_skipped_with_a_warning(tmp_path, call_command):
    flags = (*DIGITS, "--model=small", "--save_interval_secs=0")
    assert call_command("train", *flags, "--max_steps=3").returncode == 0
    newest = tmp_path / "run" / "checkpoints" / "3"
    largest = max(newest.rglob("*"), key=lambda path: path.stat().st_size)
    damages()["flipped"](largest)
    result = call_command("train", *flags, "--max_steps=4")
    assert result.returncode == 0, result.stderr
    assert (
        f"run/checkpoints/3 is damaged: {largest.relative_to(newest)}" in result.stderr
    )
    assert "resumed from step 2" in result.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
@pytest.mark.slow
@pytest.mark.parametrize("output", ["full", "closed"])
def test_a_training_continues_without_its_log(digits_run, tmp_path, output):
    """A full disk or a closed pipe at the log's end must not end the run."""
    words = command("train", *DIGITS, "--max_steps=20")
    script = {
        "full": '"$@" > /dev/full',
        "closed": 'set -o pipefail; "$@" | head -n 1 > first.txt',
    }
    done = subprocess.run(
        ["bash", "-c", script[output], "bash", *words],
        cwd=tmp_path,
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    reason = {"full": "No space left on device", "closed": "Broken pipe"}[output]
    assert done.stderr == (
        f"warning: cannot write to standard output: {reason}; training continues "
        "without its log\n"
    )
    assert_equal_states(
        state_of(tmp_path / "run", 20), state_of(digits_run / "run", 20)
    )


@pytest.mark.slow
def test_a_full_disk_is_told_in_one_line(tmp_path):
    """Files cannot grow to a checkpoint's size, not even in Orbax's threads."""
    limit = "ulimit -f 1500; trap '' XFSZ; \"$@\""
    done = subprocess.run(
        ["bash", "-c", limit, "bash", *command("train", *DIGITS, "--max_steps=2")],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert_one_line(done, 1, "cannot save the checkpoint of step 2", "no earlier")
    assert done.stderr.count("\n") == 1, done.stderr
    assert stat.S_ISDIR((tmp_path / "run" / "checkpoints").stat().st_mode)


@pytest.mark.parametrize(
    ("progress", "lines", "bar"),
    [("auto", True, False), ("none", False, False), ("bar", True, True)],
)
def test_progress_is_shown_as_the_flag_says(call_command, progress, lines, bar):
    flags = ("--model=small", "--train_dir=my run", "--max_steps=2")
    done = call_command("train", *DIGITS, *flags, f"--progress={progress}")
    assert ("step 0, loss = " in done.stdout) == lines
    assert ("2/2 [" in done.stderr) == bar
    assert "2 steps in 0:0" in done.stdout
    # It can be pasted.
    assert done.stdout.splitlines()[-1] == (
        "next: python -m cifar_jax.eval '--checkpoint_dir=my run'"
    )


def test_a_training_that_keeps_nothing_says_so(call_command):
    flags = ("--model=small", "--max_steps=1", "--train_dir=")
    result = call_command("train", *DIGITS, *flags)
    assert result.returncode == 0
    assert result.stdout.count("nothing from this run is saved") == 1
