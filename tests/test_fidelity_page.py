"""Tests that docs/fidelity.md has what was measured, and names what exists."""

import json
import pathlib
import re
import statistics

import pytest

from experiments import fidelity

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "fidelity.md").read_text()
RESULTS = {
    "cifar_jax": "fidelity",
    "cifar_jax `--ops=plain`": "fidelity_plain",
    "cifar_jax `--use_fp16`": "fidelity_bf16",
}


def row(precisions: list[float], loss: str) -> str:
    """Returns the end of a row of the page's table of runs."""
    mean, deviation = statistics.mean(precisions), statistics.stdev(precisions)
    return f"{mean:.4f} | {deviation:.4f} | {loss} |"


@pytest.mark.parametrize("name", RESULTS)
def test_precisions_and_losses_are_those_that_were_measured(name):
    path = ROOT / "experiments" / "results" / f"{RESULTS[name]}.json"
    results = json.loads(path.read_text())["results"]
    loss = statistics.mean(result["step_0_loss"] for result in results)
    precisions = [result["precision"] for result in results]
    assert f"| {name} | {row(precisions, f'{loss:.3f}')}" in TEXT


def test_the_originals_precision_is_that_of_the_experiment():
    assert f"unseeded | {row(list(fidelity.TENSORFLOW), '4.68')}" in TEXT


def test_the_scripts_exist():
    scripts = re.findall(r"`(make_\w+\.py)`", TEXT)
    assert {f.name for f in (ROOT / "tests" / "golden").glob("make_*")} == set(scripts)
