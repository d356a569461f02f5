"""Tests what an evaluation says about its precision besides the number."""

import numpy as np
import pytest

from cifar_jax import RunError
from cifar_jax.evaluation import measuring

NAMES = ("cats", "dogs", "newts")


def answers(predictions):
    return np.eye(3, dtype=np.float32)[predictions]


def test_few_images_are_put_in_perspective():
    labels = np.array([0, 1, 1, 1, 2, 1, 0, 2, 1, 1])
    predictions = np.array([0, 1, 1, 1, 2, 1, 0, 0, 0, 2])
    # Wilson's interval of 7 of 10, by R: prop.test(7, 10, correct=FALSE).
    assert measuring.put_in_perspective(answers(predictions), labels, NAMES) == (
        "with 10 images, the 95% interval is 0.397 to 0.892 (Wilson); "
        "guessing gives 0.333; always predicting dogs gives 0.600"
    )
    assert measuring.facts(answers(predictions), labels, 12, "a5") == {
        "fingerprint": "a5",
        "num_examples": 10,
        "examples_in_split": 12,
        "largest_class": 6,
        "predicted_classes": 3,
    }


def test_one_answer_to_everything_is_named():
    labels = np.array([0, 1, 1, 2])
    words = measuring.put_in_perspective(answers([2] * 4), labels, NAMES)
    assert words.endswith("; all are predicted as newts")
    assert measuring.facts(answers([2] * 4), labels, 4, "a5")["predicted_classes"] == 1
    single = measuring.put_in_perspective(answers([2]), labels[:1], NAMES)
    assert "all are" not in single


def test_many_images_speak_for_themselves():
    labels = np.zeros(1000, int)
    assert measuring.put_in_perspective(answers(labels), labels, NAMES) is None
    assert (
        measuring.put_in_perspective(answers(labels[1:]), labels[1:], NAMES) is not None
    )


def test_logits_that_are_not_finite_say_nothing():
    logits = answers([0, 1])
    logits[0, 0] = np.nan
    with pytest.raises(RunError, match="are not finite"):
        measuring.put_in_perspective(logits, np.array([0, 1]), NAMES)
