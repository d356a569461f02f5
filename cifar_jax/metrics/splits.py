"""Metrics of a whole split."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Integer

from cifar_jax.checks import check_range
from cifar_jax.metrics import scores


class SplitResults(NamedTuple):
    """What a metric of a split can be computed from.

    Attributes:
        logits: the network's logits for all images.
        labels: the labels of the same images.
        class_names: the name of each label.
    """

    logits: Float[np.ndarray, "n classes"]
    labels: Integer[np.ndarray, " n"]
    class_names: Sequence[str]


@runtime_checkable
class SplitMetric(Protocol):
    """What a class in EVAL_METRICS provides; its dataclass fields are its options."""

    def __call__(self, split: SplitResults) -> dict[str, float]:
        """Returns values by name: a single one, or one per class, for example."""
        ...


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Fraction of the images whose highest logit is that of their label."""

    def __call__(self, split: SplitResults) -> dict[str, float]:
        return {"accuracy": scores.accuracy(split.logits, split.labels)}


@dataclasses.dataclass(frozen=True)
class BalancedAccuracy:
    """Mean accuracy of the classes; see `scores.balanced_accuracy`."""

    def __call__(self, split: SplitResults) -> dict[str, float]:
        found = scores.balanced_accuracy(split.logits, split.labels)
        return {"balanced_accuracy": found}


@dataclasses.dataclass(frozen=True)
class TopK:
    """Fraction of the images whose label is among the k highest logits."""

    k: int = 5

    def __post_init__(self) -> None:
        check_range("k", self.k, at_least=1)

    def __call__(self, split: SplitResults) -> dict[str, float]:
        return {f"top_{self.k}": scores.accuracy_at(self.k, split.logits, split.labels)}


@dataclasses.dataclass(frozen=True)
class NLL:
    """Mean negative log-likelihood of the labels, in nats."""

    def __call__(self, split: SplitResults) -> dict[str, float]:
        return {"nll": scores.negative_log_likelihood(split.logits, split.labels)}


@dataclasses.dataclass(frozen=True)
class ECE:
    """Expected calibration error; see `scores.calibration`."""

    bins: int = 15

    def __post_init__(self) -> None:
        check_range("bins", self.bins, at_least=1, at_most=1_000_000)

    def __call__(self, split: SplitResults) -> dict[str, float]:
        return {"ece": scores.calibration(split.logits, split.labels, self.bins).error}


@dataclasses.dataclass(frozen=True)
class PerClass:
    """Accuracy on the images of each class that has any."""

    def __call__(self, split: SplitResults) -> dict[str, float]:
        recall = scores.recall(split.logits, split.labels)
        return {
            f"accuracy/{name}": float(value)
            for name, value in zip(split.class_names, recall, strict=True)
            if not np.isnan(value)
        }
