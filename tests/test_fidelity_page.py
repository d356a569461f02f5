"""Tests that docs/fidelity.md has the measured results and names existing files."""

import json
import pathlib
import re

import pytest

from experiments.harness import runs

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "fidelity.md").read_text()
RESULT = json.loads((ROOT / "experiments/accuracy/results/fidelity.json").read_text())


@pytest.mark.parametrize("name", RESULT["programs"])
def test_precisions_and_losses_are_those_that_were_measured(name):
    found = RESULT["programs"][name]
    cells = (
        runs.mean([run[key] for run in found], 4)
        for key in ("precision", "precision_raw", "step_0_loss")
    )
    assert f"| {name} | {' | '.join(cells)} |" in TEXT


def test_the_machine_and_the_data_are_those_of_the_result():
    assert RESULT["machine"]["date"] in TEXT
    assert "official" in RESULT["data"]["source"]


def test_the_scripts_exist():
    scripts = re.findall(r"`(make_\w+\.py)`", TEXT)
    assert {f.name for f in (ROOT / "tests" / "golden").glob("make_*")} == set(scripts)
