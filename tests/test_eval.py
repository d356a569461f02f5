"""Tests the eval command on the stand-in data, which need no download."""

import json
import os
import re
import shutil
import signal

import pytest
from helpers import DIGITS, assert_one_line, damages, read_until, started

from cifar_jax.runs import checkpoints
from cifar_jax.writers import jsonl as summaries


@pytest.fixture
def run(digits_run, tmp_path):
    """Returns a copy of the finished run in `run` that tests may change."""
    return shutil.copytree(digits_run / "run", tmp_path / "run")


def change_config(run, part, **settings):
    """Changes settings in a part of a run's config.json."""
    saved = json.loads((run / "config.json").read_text())
    del saved["sha256"]
    saved[part] |= settings
    (run / "config.json").write_text(json.dumps(saved))


def test_the_real_command(digits_run, run_command, tmp_path):
    flags = (f"--checkpoint_dir={digits_run / 'run'}", "--eval_dir=here")
    result = run_command("eval", *flags)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "averaged parameters, 300 test images" in result.stdout
    # The banner is printed at the start and with the result.
    assert result.stdout.count("say nothing about CIFAR-10") == 2
    assert (tmp_path / "here" / "test.jsonl").exists()


@pytest.mark.parametrize(
    ("data", "count", "more"),
    [
        ("test", 300, ["--num_examples=2147483647"]),
        ("train_eval", 1400, []),
        ("validation", 97, []),
    ],
)
def test_every_image_of_the_split_counts(run, call_command, data, count, more):
    result = call_command("eval", "--checkpoint_dir=run", f"--eval_data={data}", *more)
    assert result.returncode == 0, result.stderr
    assert (
        f"step 20 of run, averaged parameters, {count} {data} images" in result.stdout
    )
    found = re.search(
        r"\d{4}-\d\d-\d\d [\d:.]{15}: precision @ 1 = (\d\.\d{3})\n", result.stdout
    )
    (record,) = summaries.read_evaluations(run / "eval" / f"{data}.jsonl")
    assert record["num_examples"] == record["examples_in_split"] == count
    assert f"{record['precision_at_1']:.3f}" == found[1]
    assert (record["precision_at_1"] * count) % 1 == pytest.approx(0, abs=1e-6)
    assert list((run / "eval").glob("events.out.tfevents.*"))


def test_some_images_are_never_taken_for_all(run, call_command):
    whole = call_command("eval", "--checkpoint_dir=run")
    assert whole.returncode == 0, whole.stderr
    some = call_command("eval", "--checkpoint_dir=run", "--num_examples=8")
    assert "the first 8 of 300 test images" in some.stdout
    (record,) = summaries.read_evaluations(run / "eval" / "test.jsonl")
    assert record["num_examples"] == 300
    (line,) = (run / "eval" / "test_partial.jsonl").read_text().splitlines()
    assert json.loads(line)["num_examples"] == 8
    assert summaries.read_evaluations(run / "eval" / "test_partial.jsonl") == []


def test_other_data_are_never_taken_for_the_runs_own(run, call_command):
    before = {p: p.read_bytes() for p in (run / "eval").glob("*.jsonl")}
    change_config(run, "data", fingerprint="0" * 64)
    result = call_command("eval", "--checkpoint_dir=run")
    assert "warning: trained on other images or labels" in result.stdout
    (record,) = summaries.read_evaluations(run / "eval" / "test_other_data.jsonl")
    assert len(record["fingerprint"]) == 64
    after = {p: p.read_bytes() for p in (run / "eval").glob("*.jsonl")}
    assert before.items() <= after.items()
    assert not (run / "eval" / "test.jsonl").exists()


def test_raw_parameters_and_another_folder(run, call_command, tmp_path):
    flags = ("--raw_params", f"--eval_dir={tmp_path}/elsewhere")
    result = call_command("eval", "--checkpoint_dir=run", *flags)
    assert "raw parameters, 300 test images" in result.stdout
    (record,) = summaries.read_evaluations(tmp_path / "elsewhere" / "test_raw.jsonl")
    assert record["step"] == 20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--checkpoint_dir=nowhere"], ["no run in nowhere", "train first"]),
        (["--eval_data=all"], ["--eval_data", "validation"]),
        (["--batch_size=0"], ["--batch_size"]),
        (["--num_examples=-1"], ["--num_examples"]),
        (["--num_examples=9223372036854775808"], ["--num_examples"]),
        (["--eval_interval_secs=nan"], ["--eval_interval_secs=nan"]),
        (["--eval_interval_secs=inf"], ["--eval_interval_secs=inf"]),
        (["--eval_dir=/etc/passwd"], ["--eval_dir=/etc/passwd", "Not a directory"]),
        (["--report=/dev/null/out"], ["--report=/dev/null/out", "Not a directory"]),
        (["--data_dir=~nobody-of-this-name"], ["no run in cifar10_train"]),
        (["--checkpoint_dir=two\nlines"], [r"no run in two\nlines"]),
        (["--checkpoint_dir=" + "x" * 300], ["File name too long"]),
    ],
)
def test_unusable_arguments_are_reported_on_one_line(call_command, arguments, words):
    assert_one_line(call_command("eval", *arguments), 2, *words)


def test_a_run_that_cannot_be_written_names_the_way_out(run, call_command):
    shutil.rmtree(run / "eval", ignore_errors=True)
    (run / "eval").touch()
    result = call_command("eval", "--checkpoint_dir=run")
    assert_one_line(result, 2, "--eval_dir=run/eval cannot be used", "another folder")
    result = call_command("eval", "--checkpoint_dir=run", "--eval_dir=elsewhere")
    assert result.returncode == 0


def test_a_checkpoint_that_the_training_has_deleted_is_no_warning(
    run, call_command, monkeypatch
):
    monkeypatch.setattr(
        "cifar_jax.eval.following.new_steps",
        lambda run, _: ((run, step) for step in (10, 20, 30)),
    )
    newer = shutil.copytree(run / "checkpoints" / "20", run / "checkpoints" / "30")
    (newer / "SHA256SUMS").unlink()
    result = call_command("eval", "--checkpoint_dir=run", "--run_once=False")
    assert result.returncode == 0
    assert result.stdout.count("precision @ 1") == 1
    [warning] = result.stderr.splitlines()
    assert warning.startswith("warning: checkpoint run/checkpoints/30 is damaged")


def test_validation_of_a_run_without_it_says_what_to_do(run, call_command):
    change_config(run, "config", validation_size=0)
    result = call_command("eval", "--checkpoint_dir=run", "--eval_data=validation")
    assert_one_line(result, 2, "train with --validation_size=5000", "new --train_dir")
    assert "has no sha256; it is used as is" in result.stderr


def test_an_older_checkpoint_is_used_with_the_reason(run, call_command):
    newer = shutil.copytree(run / "checkpoints" / "20", run / "checkpoints" / "40")
    damages()["truncated"](newer / "SHA256SUMS")
    result = call_command("eval", "--checkpoint_dir=run")
    assert result.returncode == 0, result.stderr
    assert "step 20 of run" in result.stdout
    assert "warning: checkpoint run/checkpoints/40 is damaged: " in result.stderr
    assert "using the previous one instead" in result.stderr


@pytest.mark.parametrize(
    ("output", "status"), [("full", 1), ("closed", 141)], ids=["full", "closed"]
)
def test_a_result_that_cannot_be_printed_is_a_failure(
    run, call_command, monkeypatch, output, status
):
    """In this process, an error of print() replaces one of the underlying file."""
    error = {"full": OSError(28, os.strerror(28)), "closed": BrokenPipeError()}[output]

    def fail(*words, file=None, **_):
        if file is None:
            raise error
        print(*words, file=file)

    monkeypatch.setattr("cifar_jax.console.print", fail, raising=False)
    monkeypatch.setattr("cifar_jax.console.discard_output", lambda: None)
    result = call_command("eval", "--checkpoint_dir=run")
    assert result.returncode == status
    if output == "full":
        assert_one_line(result, 1, "to standard output: No space left on device")
    else:
        assert result.stderr == ""


@pytest.mark.slow
def test_it_follows_a_training_to_its_end(tmp_path):
    """If started first, eval waits; it evaluates every checkpoint once."""
    following = ("--checkpoint_dir=run", "--run_once=False", "--eval_interval_secs=1")
    with started(tmp_path, "eval", *following) as follower:
        read_until(follower, "waiting for training to start in run")
        flags = (*DIGITS, "--max_steps=31", "--save_interval_secs=0")
        with started(tmp_path, "train", *flags) as training:
            assert training.wait(timeout=300) == 0
            saved = [
                int(s) for s in re.findall(r"saved \S+/(\d+)", training.stdout.read())
            ]
        log, errors = follower.communicate(timeout=300)
        assert follower.returncode == 0, errors
    evaluated = [int(m[1]) for m in re.finditer(r"step (\d+) of run", log)]
    # Checkpoints that were deleted before eval saw them cannot be evaluated.
    assert len(evaluated) >= min(len(saved), checkpoints.KEPT)
    assert evaluated == sorted(set(evaluated) & set(saved))
    assert evaluated[-1] == 31
    assert log.count("precision @ 1 = ") == len(evaluated)
    assert "training has finished at step 31 (--max_steps)" in log
    records = summaries.read_evaluations(tmp_path / "run" / "eval" / "test.jsonl")
    assert [record["step"] for record in records] == evaluated


@pytest.mark.slow
def test_it_waits_for_a_training_that_was_killed(tmp_path):
    following = ("--checkpoint_dir=run", "--run_once=False", "--eval_interval_secs=90")
    flags = (*DIGITS, "--log_frequency=1", "--save_interval_secs=0")
    with started(tmp_path, "eval", *following) as follower:
        with started(tmp_path, "train", *flags, "--max_steps=1000000") as training:
            read_until(training, "saved run/checkpoints/3")
            training.send_signal(signal.SIGKILL)
        read_until(follower, "waiting 90 s for it to be restarted")
        last = checkpoints.steps(tmp_path / "run" / "checkpoints")[-1]
        with started(tmp_path, "train", *flags, f"--max_steps={last + 2}") as training:
            assert training.wait(timeout=300) == 0
        log, errors = follower.communicate(timeout=300)
        assert follower.returncode == 0, errors
    assert f"training has finished at step {last + 2}" in log


def test_waiting_for_a_training_that_is_not_restarted_ends(run, call_command):
    change_config(run, "config", max_steps=50)
    flags = ("--checkpoint_dir=run", "--run_once=False", "--eval_interval_secs=0.01")
    result = call_command("eval", *flags)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("precision @ 1 = ") == 1
    assert "has not reached step 50; waiting 0.01 s for it to be" in result.stdout
    assert "not restarted within 0.01 s; its last checkpoint is at step 20" in (
        result.stdout
    )
    shutil.rmtree(run / "checkpoints")
    assert_one_line(call_command("eval", *flags), 2, "and has saved no checkpoint")
