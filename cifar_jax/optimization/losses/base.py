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

# Labels or class probabilities.
Targets = Integer[Array | np.ndarray, " n"] | Float[Array | np.ndarray, "n classes"]
# Extra arrays with a row for each example, by name.
Extra = Mapping[str, Shaped[Array | np.ndarray, "n ..."]]


@runtime_checkable
class Loss(Protocol):
    """The interface of classes in LOSSES; their dataclass fields are options.

    Attributes:
        name: name of the term in logs and summaries.
    """

    name: ClassVar[str]

    def __call__(
        self, logits: Float[Array, "n classes"], targets: Targets, extra: Extra
    ) -> Float[Array, "..."]:
        """Returns the loss of each example; a train step averages them.

        The mean is over the examples that have labels, whatever the values of others. A
        loss that is not a mean over examples may return a single number instead, and
        must then leave out examples without labels itself.

        Args:
            logits: the network's outputs.
            targets: labels, -1 for examples without one; or class probabilities (soft
                targets), zeros for examples without labels.
            extra: the arrays in `Split.extra`, and "index", the positions of the
                examples in the training set.
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
            # Equal up to rounding, without targets of size n x classes.
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        soft = as_probabilities(targets, logits.shape[-1])
        soft = optax.smooth_labels(soft, self.label_smoothing)
        return optax.softmax_cross_entropy(logits, soft)


@dataclasses.dataclass(frozen=True)
class SquaredError:
    """Squared distance between logits and targets, summed over classes.

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
    """Returns labels as one-hot vectors, and soft targets unchanged."""
    if targets.ndim == 1:
        return jax.nn.one_hot(targets, num_classes)
    return jnp.asarray(targets)


def per_example_loss(
    loss: Loss, logits: Float[Array, "n classes"], targets: Targets, extra: Extra
) -> Float[Array, " n"]:
    """Returns the loss of each example, by a loss that another loss wraps.

    Raises:
        UserError: the loss returns a single number for the batch.
    """
    losses = loss(logits, targets, extra)
    if losses.shape != logits.shape[:1]:
        raise UserError(
            f"the loss {loss.name} does not return one number per example, so no other "
            "loss can be built from it"
        )
    return losses


def get_extra(
    extra: Extra, name: str, loss: str, shape: tuple[int, ...]
) -> Float[Array, "n ..."]:
    """Returns one of the extra arrays as float32.

    Args:
        extra: the extra arrays passed to the loss.
        name: name of the array.
        loss: name of the loss, for the message.
        shape: shape that the array must have.

    Raises:
        UserError: the array is missing or has another shape.
    """
    if name not in extra:
        known = ", ".join(map(repr, extra))
        raise UserError(
            f"--loss={loss} needs an array {name!r} with a row for each training "
            f"image, but the data has only {known}; give it as Split(images, labels, "
            f"extra={{{name!r}: ...}}), or name another array with by='...'"
        )
    if (given := extra[name].shape) != shape:
        raise UserError(
            f"--loss={loss} needs an array {name!r} of shape {list(shape)} for a batch "
            f"of {shape[0]}, not {list(given)}"
        )
    return jnp.asarray(extra[name], jnp.float32)


def check_loss(loss: Any) -> None:
    """Raises ValueError unless the inner loss is a loss."""
    if not isinstance(loss, Loss):
        raise ValueError(f"loss={loss!r} is not a loss")
