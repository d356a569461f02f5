"""Loss functions."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Integer, Shaped

from cifar_jax.checks import check_range
from cifar_jax.errors import UserError

# Labels, or the probability of each class.
Targets = Integer[Array | np.ndarray, " n"] | Float[Array | np.ndarray, "n classes"]
# What else is known about each example, by name.
Extra = Mapping[str, Shaped[Array | np.ndarray, "n ..."]]


@runtime_checkable
class Loss(Protocol):
    """What a class in LOSSES provides; its dataclass fields are its options.

    Attributes:
        name: of the term in logs and summaries.
    """

    name: ClassVar[str]

    def __call__(
        self, logits: Float[Array, "n classes"], targets: Targets, extra: Extra
    ) -> Float[Array, "..."]:
        """Returns the loss of each example, of which a step takes the mean.

        A loss that is not a mean over examples may return one number instead.

        Args:
            logits: of the network.
            targets: labels, or probabilities of the classes (soft targets).
            extra: the arrays of `Split.extra`, and "index", the numbers of the examples
                in the training set.
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
        self, logits: Float[Array, "n classes"], targets: Targets, extra: Extra
    ) -> Float[Array, " n"]:
        if targets.ndim == 1 and not self.label_smoothing:
            # The same within rounding, without n x classes targets.
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        soft = as_probabilities(targets, logits.shape[-1])
        soft = optax.smooth_labels(soft, self.label_smoothing)
        return optax.softmax_cross_entropy(logits, soft)


@dataclasses.dataclass(frozen=True)
class SquaredError:
    """Squared distance of the logits from the targets, summed over classes.

    Hui and Belkin, Evaluation of Neural Architectures Trained with Square Loss vs
    Cross-Entropy in Classification Tasks, 2020.
    """

    name: ClassVar[str] = "squared_error"

    def __call__(
        self, logits: Float[Array, "n classes"], targets: Targets, extra: Extra
    ) -> Float[Array, " n"]:
        soft = as_probabilities(targets, logits.shape[-1])
        return optax.squared_error(logits, soft).sum(axis=-1)


def as_probabilities(targets: Targets, num_classes: int) -> Float[Array, "n classes"]:
    """Returns labels as one-hot vectors, and soft targets as they are."""
    if targets.ndim == 1:
        return jax.nn.one_hot(targets, num_classes)
    return jnp.asarray(targets)


def per_example_loss(
    loss: Loss, logits: Float[Array, "n classes"], targets: Targets, extra: Extra
) -> Float[Array, " n"]:
    """Returns the loss of each example by a loss that another one is made of.

    Raises:
        UserError: it returns one number for all.
    """
    losses = loss(logits, targets, extra)
    if losses.shape != logits.shape[:1]:
        raise UserError(
            f"the loss {loss.name} returns no number for each example, so no other "
            "loss can be made of it"
        )
    return losses


def get_extra(
    extra: Extra, name: str, loss: str, shape: tuple[int, ...]
) -> Float[Array, "n ..."]:
    """Returns one of the extra arrays, as float32.

    Args:
        extra: what a loss was given.
        name: of the array.
        loss: name of the loss, for the message.
        shape: that the array must have.

    Raises:
        UserError: there is no such array, or it has another shape.
    """
    if name not in extra:
        known = ", ".join(map(repr, extra))
        raise UserError(
            f"--loss={loss} needs an array {name!r} with a row for each training "
            f"image, and the data have only {known}; give it as Split(images, labels, "
            f"extra={{{name!r}: ...}}), or the name of another one as by='...'"
        )
    if (given := extra[name].shape) != shape:
        raise UserError(
            f"--loss={loss} needs an array {name!r} of shape {list(shape)} for a batch "
            f"of {shape[0]}, not {list(given)}"
        )
    return jnp.asarray(extra[name], jnp.float32)


def check_loss(loss: Any) -> None:
    """Raises ValueError unless the option of a loss is a loss."""
    if not isinstance(loss, Loss):
        raise ValueError(f"loss={loss!r} is not a loss")
