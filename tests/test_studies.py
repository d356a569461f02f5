"""Tests the studies at sizes so small that their results are meaningless."""

import contextlib
import csv
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from types import ModuleType
from unittest import mock

import pytest
from helpers import call_in_process, environment
from run_experiments import ROOT, call, call_experiment, run_experiment

from cifar_jax import models, read_run
from experiments.course import ablation, augmentation, pooling, why_pooling
from experiments.harness import common, runs, studies
from experiments.harness.studies import Variant


def read(results: pathlib.Path, name: str) -> tuple[dict, list[dict]]:
    """Returns the record of a study and the rows of its table; checks its figure."""
    assert (results / f"{name}.png").stat().st_size > 5_000
    record = json.loads((results / f"{name}.json").read_text())
    with (results / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(record["rows"])
    return record, rows


@pytest.mark.slow
def test_a_study_trains_its_variants(tmp_path):
    variant = Variant("no averages", {"model": "small", "average": "none"})

    def main(argv: list[str]) -> None:
        draw = functools.partial(studies.draw, title="A small network")
        studies.keep("study", studies.run([variant]), draw)

    text = call(
        lambda: common.run(main, studies.define_flags),
        *("--quick", "--dataset=digits", f"--out_dir={tmp_path / 'runs'}"),
        f"--results_dir={tmp_path}",
    )
    record, [row] = read(tmp_path, "study")
    assert record["variants"] == {"no averages": variant.changes}
    assert row["variant"] == "no averages"
    assert f"| no averages |    {float(row['test']):.4f} |" in text
    run = read_run(tmp_path / "runs" / "no_averages-0")
    assert (run.config.average, run.config.max_steps) == ("none", 4)
    assert "step 0, loss = " in (run.path / "log.txt").read_text()


@pytest.mark.slow
def test_a_run_by_the_commands_is_evaluated_once(monkeypatch, tmp_path):
    commands = []

    def command(output, name: str, *flags: str) -> None:
        done = call_in_process(name, *flags, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        commands.append(name)
        if name == "train":
            output.write(done.stdout)

    monkeypatch.setattr(runs, "run_command", command)
    folder = tmp_path / "run"
    flags = ("--dataset=digits", "--model=small", "--batch_size=8", "--max_steps=12")
    figures = runs.train_and_evaluate(folder, flags)
    assert [step for step, _ in figures["loss"]] == [0, 10]
    assert figures["loss"][0][1] == pytest.approx(figures["step_0_loss"], abs=0.01)
    assert figures["parameters"] == 32 * (8 * 8 * 3 + 1) + 10 * (32 + 1)
    assert figures["train_seconds"] == runs.train_seconds(folder / "log.txt")
    assert figures["precision"]["test"] == runs.evaluated(folder, "test", 12)
    assert runs.evaluated(folder, "test", 10) is None
    assert runs.read_precision(folder, "test") == figures["precision"]["test"]
    assert commands == ["train", "eval"]


@pytest.mark.parametrize(
    ("status", "error"), [(0, KeyboardInterrupt), (130, SystemExit)]
)
def test_ctrl_c_while_a_command_ends_is_not_lost(monkeypatch, status, error):
    class Command:
        def __init__(self, *_, **__):
            self.returncode = None

        def wait(self):
            if self.returncode is None:
                self.returncode = status
                raise KeyboardInterrupt
            return status

    monkeypatch.setattr(subprocess, "Popen", Command)
    with pytest.raises(error):
        runs.run_command(subprocess.DEVNULL, "eval")


@pytest.fixture
def run_study(tmp_path):
    """Runs the quick version of a study in this process; returns record and rows."""

    def run(study: ModuleType) -> tuple[dict, list[dict]]:
        folders = (f"--out_dir={tmp_path / 'runs'}", f"--results_dir={tmp_path}")
        with mock.patch.dict(models.MODELS):
            call(
                lambda: common.run(study.main, studies.define_flags, study.draw),
                *("--quick", "--dataset=digits", *folders),
            )
        return read(tmp_path, study.__name__.rpartition(".")[2])

    return run


@pytest.mark.slow
@pytest.mark.parametrize("study", [augmentation, ablation, pooling])
def test_studies_train_each_variant(run_study, study, monkeypatch):
    small = {"max_steps": 4, "batch_size": 8, "model": "small"}
    monkeypatch.setattr(studies, "settings", lambda: small)
    few = ("max 3x3 stride 2 SAME", "mean 2x2 stride 2")
    monkeypatch.setattr(pooling, "POOLS", {name: pooling.POOLS[name] for name in few})
    record, rows = run_study(study)
    variants = {augmentation: 6, ablation: 5, pooling: 2}[study]
    assert len(record["variants"]) == len(rows) == variants
    assert [row["variant"] for row in rows] == list(record["variants"])
    assert all(0 < float(row["test"]) < 1 for row in rows)
    # Most variants make a difference, though not all do on gray digits.
    assert len({row["train_eval_cross_entropy"] for row in rows}) > variants // 2


def test_the_sizes_after_pooling():
    found = {
        name: [after[0] for after in pooling.shapes(pooling.OtherPools(**options))]
        for name, options in pooling.POOLS.items()
    }
    assert found == {
        "max 3x3 stride 2 SAME": [24, 12, 6],
        "mean 3x3 stride 2 SAME": [24, 12, 6],
        "max 3x3 stride 2 VALID": [24, 11, 5],
        "max 2x2 stride 2": [24, 12, 6],
        "mean 2x2 stride 2": [24, 12, 6],
        "max 3x3 stride 3 SAME": [24, 8, 3],
    }


@pytest.mark.slow
def test_what_pooling_is_good_for(run_study):
    record, rows = run_study(why_pooling)
    assert [row["variant"] for row in rows] == ["max pooling", "every second pixel"]
    assert all(0 < float(row["shift_8"]) < 1 for row in rows)
    assert record["networks"]["max pooling"]["parameters"] == 1_068_298
    # conv1 24x24, conv2 12x12, then 2,304 inputs; or 24x24 twice and 36,864 inputs.
    dense = 384 * 192 + 192 * 10
    conv1, conv2 = 24 * 24 * 75 * 64, 12 * 12 * 1600 * 64
    halved, whole = (
        record["networks"][name]["multiplications"]
        for name in ("every second pixel", "every pixel")
    )
    assert halved == conv1 + conv2 + 2304 * 384 + dense
    assert whole == conv1 + 4 * conv2 + 36_864 * 384 + dense


@pytest.mark.slow
def test_max_steps_continues_one_run(tmp_path):
    folders = (f"--out_dir={tmp_path / 'runs'}", f"--results_dir={tmp_path}")
    flags = ("--quick", "--dataset=digits", *folders)
    run_experiment("course.max_steps", *flags, tmp_path=tmp_path)
    _, rows = read(tmp_path, "max_steps")
    call_experiment("course.max_steps", *flags)
    assert read(tmp_path, "max_steps")[1] == rows  # Nothing remained to be computed.
    assert [(row["steps"], row["parameters"]) for row in rows] == [
        (steps, f"{kind} parameters")
        for steps in ("2", "4", "6")
        for kind in ("averaged", "raw")
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "endless"),
    [("max_steps", "--steps=100000"), ("ablation", "--max_steps=100000")],
)
def test_ctrl_c_lets_the_training_save(tmp_path, name, endless):
    folder, results = tmp_path / "runs", tmp_path / "results"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", f"experiments.course.{name}", endless),
            *("--dataset=digits", f"--out_dir={folder}", f"--results_dir={results}"),
        ],
        cwd=ROOT,
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 300
        logs = folder.glob
        while not any("step 10," in log.read_text() for log in logs("*/log.txt")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        # Signal all processes, as a terminal does.
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert said.startswith("error: stopped by SIGINT before step ")
    assert said.count("\n") == 1
    assert len(list(folder.glob("*/checkpoints/*/SHA256SUMS"))) == 1
    assert not results.exists()
