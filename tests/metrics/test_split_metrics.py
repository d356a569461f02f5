"""Tests the metrics of a whole split on a case computed by hand."""

import numpy as np
import pytest

from cifar_jax.metrics import EVAL_METRICS
from cifar_jax.metrics.splits import SplitResults

# The second and the last image are wrong; no image is of the third class.
PROBABILITIES = [[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.6, 0.3, 0.1], [0.2, 0.3, 0.5]]
SPLIT = SplitResults(
    logits=np.log(PROBABILITIES).astype(np.float32),
    labels=np.array([0, 0, 0, 1]),
    class_names=("a", "b", "c"),
)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("accuracy", {}, {"accuracy": 0.5}),
        ("balanced_accuracy", {}, {"balanced_accuracy": 1 / 3}),
        ("top_k", {"k": 1}, {"top_1": 0.5}),
        ("top_k", {"k": 2}, {"top_2": 1.0}),
        ("nll", {}, {"nll": -np.log([0.7, 0.3, 0.6, 0.3]).mean()}),
        # The confidences are 0.7, 0.6, 0.6 and 0.5.
        ("ece", {"bins": 1}, {"ece": 0.1}),
        ("per_class", {}, {"accuracy/a": 2 / 3, "accuracy/b": 0.0}),
    ],
)
def test_it_is_what_its_name_says(name, options, expected):
    found = EVAL_METRICS[name](**options)(SPLIT)
    assert found == pytest.approx(expected, abs=1e-6)
