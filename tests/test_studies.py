"""The studies as commands, so small that their figures mean nothing."""

import csv
import json
import os
import pathlib
import subprocess
import sys

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
