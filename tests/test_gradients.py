"""Tests the comparison with TensorFlow's gradients, and docs/fidelity.md."""

import json
import pathlib

import numpy as np
import pytest
from run_experiments import run_experiment

from experiments.accuracy import gradients
from experiments.harness import output

ROOT = pathlib.Path(__file__).parents[1]
RESULT = json.loads((ROOT / "experiments/accuracy/results/gradients.json").read_text())


def test_the_page_has_what_was_measured():
    text = (ROOT / "docs" / "fidelity.md").read_text()
    rows = [gradients.row(*item) for item in RESULT["pairs"].items()]
    assert output.table(gradients.HEADER, rows) in text
    assert f"{RESULT['settings']['steps']} batches of 128 images" in text
    assert RESULT["machine"]["date"] in text
    assert "official" in RESULT["data"]["source"]


def test_distances():
    before = {"before/conv1/kernel": np.float32([1, 1])}
    a = {
        "gradient 0/conv1/kernel": np.float32([3, 4]),
        "gradient 1/conv1/kernel": np.float32([0, 2]),
        "after/conv1/kernel": np.float32([1, 3]),
        "loss": np.array([2.0, 1.1]),
    }
    b = {
        "gradient 0/conv1/kernel": np.float32([0, 5]),
        "gradient 1/conv1/kernel": np.float32([0, 2]),
        "after/conv1/kernel": np.float32([1, 5]),
        "loss": np.array([2.0, 1.0]),
    }
    found = gradients.compared(a, b, before)
    assert found["gradients"]["conv1/kernel"] == pytest.approx([np.sqrt(10) / 5, 0])
    assert found["loss"] == pytest.approx(0.1)
    assert found["change"] == pytest.approx(0.5)


@pytest.mark.slow
def test_ours_alone(tmp_path):
    run_experiment(
        "accuracy.gradients",
        *("--steps=2", "--batch_size=8", "--dataset=digits"),
        *(f"--results_dir={tmp_path}", "--tensorflow_python="),
        tmp_path=tmp_path,
    )
    record = json.loads((tmp_path / "gradients.json").read_text())
    [found] = record["pairs"].values()
    later = [found["gradients"][f"{layer}/kernel"] for layer in gradients.LATER]
    # The digits' blank borders cause near-ties, which only conv1 and pooling see.
    assert np.shape(later) == (4, 2)
    assert 0 < np.max(later) < 0.05
