"""Accuracy and calibration metrics, as functions of logits and labels.

All of them run in float64 on the host, on the logits from one `predict_logits` pass.
They raise RunError if a logit is not finite: comparisons with NaN would count such an
image as one of class 0.
"""

import dataclasses
from collections import Counter

import numpy as np
from jaxtyping import Bool, Float, Integer

from cifar_jax.errors import RunError

_BINS = 15


@dataclasses.dataclass(frozen=True)
class ClassScores:
    """Per-class scores; NaN where a score is undefined.

    Attributes:
        precision: fraction of the images predicted as the class that belong to it;
            undefined if there are none.
        recall: fraction of the images of the class that are predicted as it;
            undefined if there are none.
        f1: harmonic mean of precision and recall; undefined if the class occurs in
            neither the labels nor the predictions.
        support: number of images of the class.
    """

    precision: Float[np.ndarray, " classes"]
    recall: Float[np.ndarray, " classes"]
    f1: Float[np.ndarray, " classes"]
    support: Integer[np.ndarray, " classes"]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Images binned by confidence, the probability of the most likely class.

    Attributes:
        edges: bin edges from 0 to 1; a bin includes its upper edge.
        counts: number of images in each bin.
        confidence: mean confidence in each bin; NaN if the bin is empty.
        accuracy: accuracy in each bin; NaN if the bin is empty.
        error: expected calibration error, the mean over all images of
            |accuracy - confidence| of their bin.
    """

    edges: Float[np.ndarray, " edges"]
    counts: Integer[np.ndarray, " bins"]
    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]
    error: float


def accuracy(
    logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]
) -> float:
    """Returns the fraction of images whose highest logit is that of their label."""
    return num_correct(logits, labels) / len(labels)


def num_correct(
    logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]
) -> int:
    """Returns the number of images whose highest logit is that of their label."""
    return int(np.sum(_predictions(logits) == labels))


def accuracy_at(
    k: int, logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]
) -> float:
    """Returns the fraction of images whose label is among the k highest logits.

    Ties go to the class with the lower index, as in `accuracy`.
    """
    top_classes = np.argsort(-_finite(logits), axis=-1, kind="stable")[:, :k]
    return float(np.mean((top_classes == labels[:, None]).any(axis=-1)))


def balanced_accuracy(
    logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]
) -> float:
    """Returns the mean accuracy of the classes that have images.

    A network that always predicts the same one of k classes gets 1/k, however many
    images that class has (Brodersen et al., The Balanced Accuracy and Its Posterior
    Distribution, 2010).
    """
    found = recall(logits, labels)
    return float(np.mean(found[~np.isnan(found)]))


def recall(
    logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]
) -> Float[np.ndarray, " classes"]:
    """Returns the accuracy on the images of each class; NaN if it has none."""
    counts = np.bincount(labels, minlength=logits.shape[-1])
    right = np.bincount(labels, _predictions(logits) == labels, len(counts))
    with np.errstate(invalid="ignore"):
        return right / counts


def only_prediction(logits: Float[np.ndarray, "n classes"]) -> int | None:
    """Returns the class that all images are predicted as; None if there are several."""
    predictions = _predictions(logits)
    return int(predictions[0]) if (predictions == predictions[0]).all() else None


def wilson_interval(successes: int, count: int) -> tuple[float, float]:
    """Returns Wilson's 95% score interval of a proportion, also valid near 0 and 1.

    E. B. Wilson, "Probable inference, the law of succession, and statistical
    inference", 1927.
    """
    # Imported here, like SciPy and scikit-learn below: this takes a second.
    from scipy.stats import binomtest

    interval = binomtest(successes, count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def probabilities(
    logits: Float[np.ndarray, "n classes"],
) -> Float[np.ndarray, "n classes"]:
    """Returns the softmax of the logits in float64."""
    from scipy import special

    return special.softmax(np.asarray(_finite(logits), np.float64), axis=-1)


def negative_log_likelihood(
    logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]
) -> float:
    """Returns the mean over all images of -log(probability of the label), in nats."""
    from scipy import special

    log_p = special.log_softmax(np.asarray(_finite(logits), np.float64), axis=-1)
    return float(-np.mean(np.take_along_axis(log_p, labels[:, None], axis=-1)))


def confusion_matrix(
    logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]
) -> Integer[np.ndarray, "classes classes"]:
    """Counts the images by label (rows) and predicted class (columns)."""
    from sklearn import metrics

    classes = range(logits.shape[-1])
    return metrics.confusion_matrix(labels, _predictions(logits), labels=classes)


def confusions(
    logits: Float[np.ndarray, "n classes"],
    labels: Integer[np.ndarray, " n"],
    most: int,
) -> list[tuple[int, int, int]]:
    """Returns up to `most` cells off the confusion matrix's diagonal, largest first.

    Returns:
        The label, the predicted class and the number of images of each cell.
    """
    pairs = zip(labels.tolist(), _predictions(logits).tolist(), strict=True)
    counts = Counter(pair for pair in pairs if pair[0] != pair[1])
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(*pair, count) for pair, count in ordered[:most]]


def class_scores(
    logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]
) -> ClassScores:
    """Returns precision, recall, F1 and the number of images of each class."""
    from sklearn import metrics

    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels,
        _predictions(logits),
        labels=range(logits.shape[-1]),
        zero_division=np.nan,
    )
    # Scikit-learn returns floats if some classes have no images.
    return ClassScores(precision, recall, f1, support.astype(np.int64))


def calibration(
    logits: Float[np.ndarray, "n classes"],
    labels: Integer[np.ndarray, " n"],
    bins: int = _BINS,
) -> Calibration:
    """Compares confidence with accuracy in bins of equal width.

    C. Guo et al., "On calibration of modern neural networks", 2017, equations 2, 3
    and 5. The default of 15 bins is also theirs.
    """
    confidence = probabilities(logits).max(axis=-1)
    correct = _predictions(logits) == labels
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.digitize(confidence, edges[1:-1], right=True)
    counts, confidence_sums, correct_counts = (
        np.bincount(bin_of, weights, minlength=bins)
        for weights in (None, confidence, correct)
    )
    with np.errstate(invalid="ignore"):
        means = confidence_sums / counts, correct_counts / counts
    gaps = np.abs(correct_counts - confidence_sums)
    return Calibration(edges, counts, *means, float(gaps.sum() / len(labels)))


def confident_mistakes(
    logits: Float[np.ndarray, "n classes"],
    labels: Integer[np.ndarray, " n"],
    most: int,
) -> Integer[np.ndarray, " m"]:
    """Returns indices of up to `most` misclassified images, most confident first."""
    return _by_confidence(logits, _predictions(logits) != labels)[:most]


def confident_right_answers(
    logits: Float[np.ndarray, "n classes"],
    labels: Integer[np.ndarray, " n"],
    most: int,
) -> Integer[np.ndarray, " m"]:
    """Returns indices of up to `most` correctly classified images.

    The most confident one of each class comes first, then the second of each, and so
    on: otherwise all might be of the same class.
    """
    ordered = _by_confidence(logits, _predictions(logits) == labels)
    seen: Counter[int] = Counter()
    turns = []
    for label in labels[ordered].tolist():
        turns.append(seen[label])
        seen[label] += 1
    return ordered[np.argsort(turns, kind="stable")][:most]


def _predictions(logits: Float[np.ndarray, "n classes"]) -> Integer[np.ndarray, " n"]:
    """Returns the class with the highest logit for each image."""
    return _finite(logits).argmax(axis=-1)


def _finite(logits: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
    """Returns the logits; raises RunError unless all are finite."""
    finite = np.isfinite(logits).all(axis=-1)
    if not finite.all():
        raise RunError(
            f"the logits of {np.sum(~finite)} of {len(logits)} images are not finite, "
            "so they have no predictions; the network has diverged or is damaged"
        )
    return logits


def _by_confidence(
    logits: Float[np.ndarray, "n classes"], chosen: Bool[np.ndarray, " n"]
) -> Integer[np.ndarray, " m"]:
    """Returns the indices of the chosen images, most confident first."""
    confidence = probabilities(logits).max(axis=-1)
    found = np.flatnonzero(chosen)
    return found[np.argsort(-confidence[found], kind="stable")]
