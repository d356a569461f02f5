"""Tests the record of an evaluation report, and the files and when they are written."""

import dataclasses
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from report_files import SUBJECT, Page

from cifar_jax import (
    Config,
    RunError,
    UserError,
    build_program,
    init_state,
    load_data,
    load_trained,
    predict_logits,
    read_run,
)
from cifar_jax.evaluation import report
from cifar_jax.runs import checkpoints, run_dir


def test_the_folder_has_both_files_and_nothing_else(written):
    names = sorted(path.name for path in written.iterdir())
    assert names == ["report.html", "report.json"]


def test_the_record_is_strict_json_and_correct(written, answers):
    split, logits = answers
    refuse = pytest.fail  # NaN and infinities are not JSON.
    record = json.loads((written / "report.json").read_text(), parse_constant=refuse)
    expected = json.loads(json.dumps(report.contents(SUBJECT, logits, split.labels)))
    assert record == expected
    guesses = logits.argmax(axis=1)
    right = int((guesses == split.labels).sum())
    assert (record["correct"], record["num_images"]) == (right, 60)
    assert record["precision_at_1"] == right / 60
    recalls = [np.mean(guesses[split.labels == k] == k) for k in (0, 1)]
    assert record["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert record["chance"] == 1 / 3
    assert record["largest_share"] == np.bincount(split.labels).max() / 60
    assert record["only_prediction"] is None
    low, high = record["precision_at_1_interval_95"]
    assert low < right / 60 < high
    first, _, never = record["classes"]
    of_first, as_first = split.labels == 0, guesses == 0
    assert first["support"] == of_first.sum()
    assert first["recall"] == pytest.approx(as_first[of_first].mean())
    assert first["precision"] == pytest.approx(of_first[as_first].mean())
    assert (never["precision"], never["recall"], never["support"]) == (None, None, 0)
    assert np.sum(record["confusion_matrix"]) == 60
    assert record["confusion_matrix"][0][1] == (of_first & (guesses == 1)).sum()
    assert record["class_names"] == list(SUBJECT.class_names)
    for confusion in record["confusions"]:
        row, column = (
            SUBJECT.class_names.index(confusion[name])
            for name in ("label", "prediction")
        )
        assert confusion["count"] == record["confusion_matrix"][row][column]


def test_the_same_results_give_the_same_bytes(written, answers, tmp_path):
    report.write(tmp_path, SUBJECT, *answers)
    for path in written.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["report.html", "report.json"])
def test_other_files_are_not_overwritten(written, tmp_path, name):
    report.check(written)  # An earlier report may be overwritten.
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=rf"{name} was not written by --report"):
        report.check(tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_a_folder_that_cannot_hold_files():
    with pytest.raises(UserError, match="--report=/proc cannot be used: No such file"):
        report.check(pathlib.Path("/proc"))


def test_a_report_that_cannot_be_written_at_the_end(answers, tmp_path):
    (tmp_path / "gone").write_text("")
    with pytest.raises(RunError, match=r"cannot write the report to .*: File exists"):
        report.write(tmp_path / "gone", SUBJECT, *answers)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "official CIFAR-10, from /home/me/data/x.bin",
            "official CIFAR-10, from x.bin",
        ),
        (
            "/mnt/my/pictures is not the official one",
            "pictures is not the official one",
        ),
        (r"the arrays in C:\Users\me\a.npz", "the arrays in a.npz"),
        ("8x8 digits and/or data/x.bin, ../y", "8x8 digits and/or data/x.bin, ../y"),
        ("64 / 8 = 8", "64 / 8 = 8"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
    ],
)
def test_directories_of_this_machine_are_left_out(text, shown):
    assert report.without_directories(text) == shown


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    """Returns a run whose checkpoints 1 and 2 are two untrained networks."""
    path = tmp_path_factory.mktemp("digits") / "run"
    dataset = load_data("digits")
    # A different fingerprint, as if the pixels differed.
    trained_on = dataclasses.replace(dataset, fingerprint="0" * 64)
    config = Config(dataset="digits", model="small", max_steps=2, train_dir=str(path))
    program = build_program(config, num_classes=10)
    run = run_dir.from_config(config, trained_on)
    with run_dir.claim(run):
        run_dir.write_config(run, trained_on)
        for step in (1, 2):
            state = init_state(program, jax.random.key(step), dataset.train.images)
            state = dataclasses.replace(state, step=jnp.int32(step))
            checkpoints.save(run.checkpoints, step, state)
    return path


def test_the_command_reports_each_checkpoint(two_checkpoints, call_command, tmp_path):
    data = load_data("digits")
    result = call_command(
        "eval",
        f"--checkpoint_dir={two_checkpoints}",
        *("--report=out", "--num_examples=40", "--run_once=False"),
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("report written to out/report.html") == 2
    printed = re.findall(r"precision @ 1 = (\S+)", result.stdout)
    record = json.loads((tmp_path / "out" / "report.json").read_text())
    page = Page((tmp_path / "out" / "report.html").read_text()).text
    assert record["step"] == 2
    assert record["run"] == "run"
    for name in ("report.html", "report.json"):
        assert str(two_checkpoints.parent) not in (tmp_path / "out" / name).read_text()
    assert (record["num_images"], record["examples_in_split"]) == (40, 300)
    assert "the first 40 of 300 test images" in page
    assert f"precision @ 1 = {printed[1]}, 95%" in page
    assert data.notice in page
    assert f"warning: trained on other images or labels: {data.source}" in page
    images, labels = data.test.images[:40], data.test.labels[:40]
    logits = predict_logits(load_trained(read_run(two_checkpoints)), images)
    guesses = logits.argmax(axis=1)
    assert record["precision_at_1"] == np.mean(guesses == labels)
    assert f"{record['precision_at_1']:.3f}" == printed[1]
    for i, row in enumerate(record["confusion_matrix"]):
        assert row == np.bincount(guesses[labels == i], None, 10).tolist()
    lines = (two_checkpoints / "eval" / "test_other_data_partial.jsonl").read_text()
    lines = lines.splitlines()
    assert json.loads(lines[1])["precision_at_1"] == record["precision_at_1"]
