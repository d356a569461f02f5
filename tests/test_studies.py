"""The studies as commands, so small that their figures mean nothing."""

import contextlib
import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture
def run_study(tmp_path):
    """Runs a study in its quick version; returns its record and its rows."""

    def run(name: str) -> tuple[dict, list[dict]]:
        results = tmp_path / "results"
        command = [
            *(sys.executable, "-m", f"experiments.{name}", "--quick"),
            *("--dataset=digits", f"--out_dir={tmp_path / 'runs'}"),
            f"--results_dir={results}",
        ]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert (results / f"{name}.png").stat().st_size > 5_000
        record = json.loads((results / f"{name}.json").read_text())
        with (results / f"{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(record["rows"])
        return record, rows

    return run


@pytest.mark.parametrize(
    ("name", "variants"), [("augmentation", 6), ("ablation", 5), ("pooling", 6)]
)
def test_studies_train_each_variant(run_study, name, variants):
    record, rows = run_study(name)
    assert len(record["variants"]) == len(rows) == variants
    assert [row["variant"] for row in rows] == list(record["variants"])
    assert all(0 < float(row["test"]) < 1 for row in rows)
    # What is left out matters, though not all of it to digits in grey.
    assert len({row["train_eval_cross_entropy"] for row in rows}) > variants // 2


def test_max_steps_goes_on_with_one_run(run_study):
    _, rows = run_study("max_steps")
    assert run_study("max_steps")[1] == rows  # All is there already.
    assert [(row["steps"], row["parameters"]) for row in rows] == [
        (steps, f"{kind} parameters")
        for steps in ("2", "4", "6")
        for kind in ("averaged", "raw")
    ]


@pytest.mark.parametrize(
    ("name", "endless"),
    [("max_steps", "--steps=100000"), ("ablation", "--max_steps=100000")],
)
def test_ctrl_c_lets_the_training_save(tmp_path, name, endless):
    runs, results = tmp_path / "runs", tmp_path / "results"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", f"experiments.{name}", "--dataset=digits", endless),
            *(f"--out_dir={runs}", f"--results_dir={results}"),
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 300
        while not any("step 10," in log.read_text() for log in runs.glob("*/log.txt")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        # To all processes, as a terminal does.
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=120) == 130
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert len(list(runs.glob("*/checkpoints/*/SHA256SUMS"))) == 1
    assert not results.exists()
