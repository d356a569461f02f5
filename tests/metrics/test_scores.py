"""Tests metrics against cases computed by hand and against plain loops."""

import functools
import math
import warnings

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import balanced_accuracy_score

from cifar_jax import RunError
from cifar_jax.metrics import scores

# Three classes: the last has no image, and the second is never predicted.
LOGITS = np.log([[0.7, 0.2, 0.1], [0.5, 0.1, 0.4], [0.1, 0.1, 0.8], [0.6, 0.3, 0.1]])
LABELS = np.array([0, 1, 1, 0], np.int32)


@st.composite
def answers(draw):
    """Draws logits, some of them tied, and labels."""
    n, classes = draw(st.integers(1, 40)), draw(st.integers(2, 6))
    values = st.integers(-6, 6).map(lambda i: i / 2)
    logits = draw(hnp.arrays(np.float32, (n, classes), elements=values))
    return logits, draw(
        hnp.arrays(np.int32, n, elements=st.integers(0, classes - 1)),
    )


def naive_calibration_error(logits, labels, bins=15):
    """Computes the error of Guo et al. image by image."""
    inside = [[] for _ in range(bins)]
    for row, label in zip(logits.astype(float), labels, strict=True):
        p = [math.exp(x) / sum(map(math.exp, row)) for x in row]
        bin_of = next(m for m in range(bins) if max(p) <= (m + 1) / bins or m == 14)
        inside[bin_of].append((max(p), int(row.argmax()) == label))
    error = 0.0
    for members in filter(None, inside):
        confidence, right = np.mean(members, axis=0)
        error += len(members) / len(labels) * abs(right - confidence)
    return error


def test_a_case_computed_by_hand():
    assert scores.accuracy(LOGITS, LABELS) == 0.5
    assert scores.confusion_matrix(LOGITS, LABELS).tolist() == [
        [2, 0, 0],
        [1, 0, 1],
        [0, 0, 0],
    ]
    found = scores.class_scores(LOGITS, LABELS)
    np.testing.assert_allclose(found.precision, [2 / 3, np.nan, 0])
    np.testing.assert_allclose(found.recall, [1, 0, np.nan])
    np.testing.assert_allclose(found.f1, [0.8, 0, 0])
    assert found.support.tolist() == [2, 2, 0]
    assert scores.negative_log_likelihood(LOGITS, LABELS) == pytest.approx(
        -np.log([0.7, 0.1, 0.1, 0.6]).mean()
    )
    assert [scores.accuracy_at(k, LOGITS, LABELS) for k in (1, 2, 3)] == [0.5, 0.5, 1]
    # The most confident mistakes come first, and at most as many as requested.
    assert scores.confident_mistakes(LOGITS, LABELS, 5).tolist() == [2, 1]
    assert scores.confident_mistakes(LOGITS, LABELS, 1).tolist() == [2]
    assert scores.confident_right_answers(LOGITS, LABELS, 5).tolist() == [0, 3]


def test_calibration_computed_by_hand():
    found = scores.calibration(LOGITS, LABELS, bins=2)
    assert found.edges.tolist() == [0, 0.5, 1]
    # A confidence of exactly one half falls into the lower bin.
    assert found.counts.tolist() == [1, 3]
    np.testing.assert_allclose(found.confidence, [0.5, 0.7])
    np.testing.assert_allclose(found.accuracy, [0, 2 / 3])
    assert found.error == pytest.approx(0.25 * 0.5 + 0.75 * (0.7 - 2 / 3))


def test_large_logits_do_not_overflow():
    logits = np.array([[1e4, 0.0], [0.0, 1e4]], np.float32)
    labels = np.array([0, 0])
    np.testing.assert_allclose(scores.probabilities(logits), np.eye(2))
    assert scores.negative_log_likelihood(logits, labels) == 5e3


@pytest.mark.parametrize(
    "metric",
    [
        scores.accuracy,
        scores.num_correct,
        functools.partial(scores.accuracy_at, 2),
        lambda logits, labels: scores.probabilities(logits),
        scores.negative_log_likelihood,
        scores.confusion_matrix,
        functools.partial(scores.confusions, most=3),
        scores.class_scores,
        scores.calibration,
        functools.partial(scores.confident_mistakes, most=3),
        functools.partial(scores.confident_right_answers, most=3),
    ],
)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_an_error(metric, value):
    logits = LOGITS.copy()
    logits[[1, 3], 2] = value
    with pytest.raises(RunError, match="logits of 2 of 4 images are not finite"):
        metric(logits, LABELS)


def test_a_calibrated_network_has_no_calibration_error():
    """Of the predictions with a confidence of 60% and 90%, that share is right."""
    p = np.repeat([[0.6, 0.4], [0.9, 0.1]], 10, axis=0)
    labels = np.array([0] * 6 + [1] * 4 + [0] * 9 + [1])
    found = scores.calibration(np.log(p), labels)
    assert found.error == pytest.approx(0, abs=1e-12)
    assert np.isnan(found.accuracy).sum() == 13
    assert scores.calibration(np.log(p), 1 - labels).error == pytest.approx(0.5)


def test_wilson_interval():
    # Wilson's formula with z = 1.959964.
    z, n, p = 1.959963985, 50, 0.8
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    interval = scores.wilson_interval(40, 50)
    assert interval == pytest.approx((middle - half, middle + half))
    low, high = scores.wilson_interval(50, 50)
    assert 0.9 < low < 1
    assert high == 1


@given(answers())
def test_the_confusion_matrix_counts_every_image_once(answer):
    logits, labels = answer
    matrix = scores.confusion_matrix(logits, labels)
    classes = logits.shape[1]
    guesses = logits.argmax(axis=1)
    assert matrix.sum(axis=1).tolist() == np.bincount(labels, None, classes).tolist()
    assert matrix.sum(axis=0).tolist() == np.bincount(guesses, None, classes).tolist()
    assert np.trace(matrix) / len(labels) == scores.accuracy(logits, labels)
    found = scores.class_scores(logits, labels)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(
            found.recall, np.diag(matrix) / matrix.sum(axis=1), rtol=1e-12
        )
        np.testing.assert_allclose(
            found.precision, np.diag(matrix) / matrix.sum(axis=0), rtol=1e-12
        )


@given(answers())
def test_calibration_matches_a_plain_loop(answer):
    logits, labels = answer
    # On an edge, as for three equal logits, rounding alone decides on the bin; which
    # bin an edge belongs to is tested by hand above.
    places = 15 * scores.probabilities(logits).max(axis=-1)
    assume((np.abs(places - places.round()) > 1e-9).all())
    found = scores.calibration(logits, labels)
    assert found.error == pytest.approx(naive_calibration_error(logits, labels))
    assert found.counts.sum() == len(labels)
    filled = found.counts > 0
    assert np.isnan(found.confidence).tolist() == (~filled).tolist()
    slack = 1e-12
    assert (found.confidence[filled] >= found.edges[:-1][filled] - slack).all()
    assert (found.confidence[filled] <= found.edges[1:][filled] + slack).all()


@given(answers())
def test_more_guesses_never_lower_the_accuracy(answer):
    logits, labels = answer
    shares = [
        scores.accuracy_at(k, logits, labels) for k in range(1, logits.shape[1] + 1)
    ]
    assert shares == sorted(shares)
    assert shares[0] == scores.accuracy(logits, labels)
    assert shares[-1] == 1


@given(answers())
def test_mistakes_are_all_wrong_and_sorted_by_confidence(answer):
    logits, labels = answer
    found = scores.confident_mistakes(logits, labels, len(labels))
    wrong = np.flatnonzero(logits.argmax(axis=1) != labels)
    assert sorted(found) == wrong.tolist()
    confidence = scores.probabilities(logits).max(axis=1)[found]
    assert (np.diff(confidence) <= 0).all()


@given(answers())
def test_right_answers_take_turns_by_class(answer):
    logits, labels = answer
    found = scores.confident_right_answers(logits, labels, len(labels))
    right = np.flatnonzero(logits.argmax(axis=1) == labels)
    assert sorted(found) == right.tolist()
    confidence = scores.probabilities(logits).max(axis=1)

    def turn(index: int) -> int:
        """Returns how many of the class come before."""
        of_class = right[labels[right] == labels[index]]
        surer = confidence[of_class] > confidence[index]
        ties = (confidence[of_class] == confidence[index]) & (of_class < index)
        return int((surer | ties).sum())

    order = [(turn(index), -confidence[index], index) for index in found]
    assert order == sorted(order)


@given(answers())
def test_balanced_accuracy_is_that_of_scikit_learn(case):
    logits, labels = case
    # Scikit-learn warns of predictions that are not among the labels.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = balanced_accuracy_score(labels, logits.argmax(axis=1))
    assert scores.balanced_accuracy(logits, labels) == pytest.approx(expected)


def test_one_answer_to_everything_has_a_balanced_accuracy_of_one_over_k():
    labels = np.repeat([0, 1, 2, 3], [90, 5, 4, 1])
    logits = np.tile([2.0, 1, 0, 0], (100, 1))
    assert scores.accuracy(logits, labels) == 0.9
    assert scores.balanced_accuracy(logits, labels) == 0.25
    assert scores.only_prediction(logits) == 0
    logits[7] = [0, 3, 1, 1]
    assert scores.only_prediction(logits) is None
