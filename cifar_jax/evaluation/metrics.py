"""How right, and how rightly sure, a network is: functions of logits and labels.

All are computed in float64 on the host, after one pass of `predict_logits`.
"""

import dataclasses

import numpy as np
import scipy.special
from jaxtyping import Float, Integer

_BINS = 15


@dataclasses.dataclass(frozen=True)
class ClassScores:
    """Figures of each class; NaN where one is undefined.

    Attributes:
        precision: share of the images taken for the class that are of it; undefined
            if none is taken for it.
        recall: share of the class's images taken for it; undefined if it has none.
        f1: their harmonic mean; undefined if the class is neither there nor guessed.
        support: how many images are of the class.
    """

    precision: Float[np.ndarray, " classes"]
    recall: Float[np.ndarray, " classes"]
    f1: Float[np.ndarray, " classes"]
    support: Integer[np.ndarray, " classes"]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Images sorted into bins by confidence, the probability of the likeliest class.

    Attributes:
        edges: of the bins, from 0 to 1; a bin contains its upper edge.
        counts: images in each bin.
        confidence: their mean confidence; NaN in an empty bin.
        accuracy: the share of them that is right; NaN in an empty bin.
        error: the expected calibration error, the mean over all images of
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
    """Share of the images whose highest logit is their label."""
    return float(np.mean(logits.argmax(axis=-1) == labels))


def accuracy_at(
    k: int, logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]
) -> float:
    """Share of the images whose label is among the k highest logits.

    Of equal logits the lower class comes first, as in `accuracy`.
    """
    likeliest = np.argsort(-logits, axis=-1, kind="stable")[:, :k]
    return float(np.mean((likeliest == labels[:, None]).any(axis=-1)))


def wilson_interval(successes: int, count: int) -> tuple[float, float]:
    """95% interval of a share by Wilson's score, which also holds near 0 and 1.

    E. B. Wilson, "Probable inference, the law of succession, and statistical
    inference", 1927.
    """
    # Imported here, as scikit-learn below: it takes a second, and few need it.
    from scipy.stats import binomtest

    interval = binomtest(successes, count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def probabilities(
    logits: Float[np.ndarray, "n classes"],
) -> Float[np.ndarray, "n classes"]:
    """Softmax of the logits, in float64."""
    return scipy.special.softmax(np.asarray(logits, np.float64), axis=-1)


def negative_log_likelihood(
    logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]
) -> float:
    """Mean over the images of -log(probability of the label), in nats."""
    log_p = scipy.special.log_softmax(np.asarray(logits, np.float64), axis=-1)
    return float(-np.mean(np.take_along_axis(log_p, labels[:, None], axis=-1)))


def confusion_matrix(
    logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]
) -> Integer[np.ndarray, "classes classes"]:
    """How many images of each label (rows) are taken for each class (columns)."""
    from sklearn import metrics

    classes = range(logits.shape[-1])
    return metrics.confusion_matrix(labels, logits.argmax(axis=-1), labels=classes)


def class_scores(
    logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]
) -> ClassScores:
    """Precision, recall, F1 and number of images of each class."""
    from sklearn import metrics

    return ClassScores(
        *metrics.precision_recall_fscore_support(
            labels,
            logits.argmax(axis=-1),
            labels=range(logits.shape[-1]),
            zero_division=np.nan,
        )
    )


def calibration(
    logits: Float[np.ndarray, "n classes"],
    labels: Integer[np.ndarray, " n"],
    bins: int = _BINS,
) -> Calibration:
    """Sets confidence against accuracy, in bins of equal width.

    C. Guo et al., "On calibration of modern neural networks", 2017, equations 2, 3
    and 5, with its 15 bins.
    """
    confidence = probabilities(logits).max(axis=-1)
    right = logits.argmax(axis=-1) == labels
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.digitize(confidence, edges[1:-1], right=True)
    counts, confidences, rights = (
        np.bincount(bin_of, weights, minlength=bins)
        for weights in (None, confidence, right)
    )
    with np.errstate(invalid="ignore"):
        means = confidences / counts, rights / counts
    gaps = np.abs(rights - confidences)
    return Calibration(edges, counts, *means, float(gaps.sum() / len(labels)))


def confident_mistakes(
    logits: Float[np.ndarray, "n classes"],
    labels: Integer[np.ndarray, " n"],
    most: int,
) -> Integer[np.ndarray, " m"]:
    """Indices of the wrongly classified images, the surest first, at most so many."""
    confidence = probabilities(logits).max(axis=-1)
    wrong = np.flatnonzero(logits.argmax(axis=-1) != labels)
    return wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
