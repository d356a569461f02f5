"""Tests that docs/experiments.md quotes the measured results."""

import numpy as np
import pytest
from run_experiments import ROOT
from test_lab_figures import grouped, result

TEXT = " ".join((ROOT / "docs" / "experiments.md").read_text(encoding="utf-8").split())


def mean(study: str, variant: str, figure: str) -> float:
    """Returns the mean of a metric over the seeds of a variant."""
    runs = grouped(result(study)["rows"], "variant")[variant]
    return float(np.mean([run[figure] for run in runs]))


def test_pooling_guards_against_overfitting_as_much_as_it_says():
    found = [
        mean("why_pooling", variant, figure)
        for figure in ("test", "train_eval")
        for variant in ("max pooling", "every second pixel")
    ]
    pooled, without, known, known_without = (f"{figure:.3f}" for figure in found)
    assert f"the tutorial's network classifies {pooled} (sd" in TEXT
    assert f"instead of the maxima, {without} (sd" in TEXT
    assert f"on its training images, {known_without} against {known}." in TEXT
    for variant, words in (("max pooling", "with maxima"), (None, "without")):
        name = variant or "every second pixel"
        lost = mean("why_pooling", name, "test") - mean("why_pooling", name, "shift_4")
        assert f"{100 * lost:.1f}{' points' if variant else ''} {words}" in TEXT


def test_noise_moves_conv2_as_much_as_it_says():
    conv2 = result("feature_maps")["layers"]["conv2"]
    change = conv2["change"]
    assert f"{conv2['share_of_zeros']:.0%} of conv2 are zeros" in TEXT
    assert f"of sigma 10 moves conv2 by {change['sigma 10']:.0%}" in TEXT
    assert f"shuffled pixels by {change['pixels shuffled']:.0%}" in TEXT


@pytest.mark.parametrize(
    ("corruption", "strength", "words"),
    [
        ("noise", 5, "0.8 points of precision lost at sigma 5"),
        ("noise", 20, "but 21 at 20"),
        ("noise", 40, "and 55 at 40"),
        ("contrast", 0.25, "does little harm, 4 points at a quarter"),
        ("shift", 2, "A shift costs 1.0 at 2 pixels"),
        ("shift", 4, "and 3.9 at 4"),
        ("occlusion", 4, "a gray square costs 1.9 at 4x4 pixels"),
        ("occlusion", 20, "but 56 at 20x20"),
    ],
)
def test_corruptions_cost_as_much_as_it_says(corruption, strength, words):
    assert words in TEXT
    cases = grouped(result("noise")["cases"], "corruption", "strength")
    (case,) = cases[corruption, strength]
    (said,) = [word for word in words.split() if word[0].isdigit()][:1]
    digits = len(said.partition(".")[2])
    assert f"{100 * case['fall']:.{digits}f}" == said


@pytest.mark.parametrize("steps", [1000, 5000, 10_000, 60_000])
def test_more_steps_bring_as_much_as_it_says(steps):
    runs = grouped(result("max_steps")["rows"], "steps", "parameters")
    found = np.mean([run["precision"] for run in runs[steps, "averaged parameters"]])
    words = TEXT[TEXT.index("| `course.max_steps` |") :].split(
        "| `course.augmentation` |"
    )[0]
    assert f"{found:.3f}" in words
    assert f"after {steps:,}" in words
