"""Loss functions."""

import dataclasses
from typing import ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Integer, Scalar

from cifar_jax.registry import check_range

# Labels, or the probability of each class.
Targets = Integer[Array | np.ndarray, " n"] | Float[Array | np.ndarray, "n classes"]


@runtime_checkable
class Loss(Protocol):
    """What a class in LOSSES provides; its dataclass fields are its options.

    Attributes:
        name: of the term in logs and summaries.
    """

    name: ClassVar[str]

    def __call__(
        self, logits: Float[Array, "n classes"], targets: Targets
    ) -> Float[Scalar, ""]:
        """Returns the mean loss of a batch.

        Args:
            logits: of the network.
            targets: labels, or probabilities of the classes (soft targets).
        """
        ...


@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """Softmax cross-entropy, in nats.

    Attributes:
        label_smoothing: fraction of each target's weight that is spread uniformly over
            all classes (Szegedy et al., Rethinking the Inception Architecture for
            Computer Vision, 2015, section 7).
    """

    label_smoothing: float = 0.0
    name: ClassVar[str] = "cross_entropy"

    def __post_init__(self) -> None:
        check_range("label_smoothing", self.label_smoothing, at_least=0, at_most=1)

    def __call__(
        self, logits: Float[Array, "n classes"], targets: Targets
    ) -> Float[Scalar, ""]:
        """Returns the mean loss of a batch."""
        if targets.ndim == 1 and not self.label_smoothing:
            # The same within rounding, without n x classes targets.
            return optax.softmax_cross_entropy_with_integer_labels(
                logits, targets
            ).mean()
        soft = as_probabilities(targets, logits.shape[-1])
        soft = optax.smooth_labels(soft, self.label_smoothing)
        return optax.softmax_cross_entropy(logits, soft).mean()


@dataclasses.dataclass(frozen=True)
class SquaredError:
    """Squared distance of the logits from the targets, summed over classes.

    Hui and Belkin, Evaluation of Neural Architectures Trained with Square Loss vs
    Cross-Entropy in Classification Tasks, 2020.
    """

    name: ClassVar[str] = "squared_error"

    def __call__(
        self, logits: Float[Array, "n classes"], targets: Targets
    ) -> Float[Scalar, ""]:
        """Returns the mean loss of a batch."""
        soft = as_probabilities(targets, logits.shape[-1])
        return optax.squared_error(logits, soft).sum(axis=-1).mean()


def as_probabilities(targets: Targets, num_classes: int) -> Float[Array, "n classes"]:
    """Returns labels as one-hot vectors, and soft targets as they are."""
    if targets.ndim == 1:
        return jax.nn.one_hot(targets, num_classes)
    return jnp.asarray(targets)
