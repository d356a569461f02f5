"""A loss that weights all classes equally, however many examples they have."""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.errors import UserError
from cifar_jax.optimization.losses.base import (
    Extra,
    Loss,
    Targets,
    check_loss,
    per_example_loss,
)


@dataclasses.dataclass(frozen=True)
class Balanced:
    """Each example's loss times n / (classes * n of its class).

    The weights average to 1 over the training set (King and Zeng, Logistic Regression
    in Rare Events Data, 2001). Classes without examples are not counted.

    Attributes:
        loss: a loss of labels.
        counts: number of training images in each class; () for the actual counts, which
            `fit` fills in.
    """

    loss: Loss
    counts: tuple[int, ...] = ()
    name: ClassVar[str] = "balanced_loss"

    def __post_init__(self) -> None:
        check_loss(self.loss)
        check_range("counts", self.counts, at_least=0)
        if self.counts and not any(self.counts):
            raise ValueError(f"counts={self.counts} must not all be 0")

    def __call__(
        self, logits: Float[Array, "n classes"], targets: Targets, extra: Extra
    ) -> Float[Array, " n"]:
        if targets.ndim != 1:
            raise UserError(
                "--loss=balanced needs labels, but the targets are class "
                "probabilities; leave out mixup and cutmix, or soft_labels around it"
            )
        if len(self.counts) != (classes := logits.shape[-1]):
            raise UserError(
                f"--loss=balanced has counts for {len(self.counts)} classes, but there "
                f"are {classes}; give it counts=(...), one for each"
            )
        present = sum(count > 0 for count in self.counts)
        # Label noise may produce a class that has no examples.
        shares = [present * max(count, 1) / sum(self.counts) for count in self.counts]
        weights = 1 / jnp.array(shares, jnp.float32)
        return weights[targets] * per_example_loss(self.loss, logits, targets, extra)


def with_counts(loss: Any, counts: tuple[int, ...]) -> Any:
    """Returns a loss with these counts in every `balanced` that has none.

    Args:
        loss: a loss, which may wrap another one in a dataclass field `loss`.
        counts: number of training images in each class.
    """
    fields = dataclasses.fields(loss) if dataclasses.is_dataclass(loss) else ()
    changes: dict[str, Any] = {}
    if "loss" in (field.name for field in fields):
        changes["loss"] = with_counts(loss.loss, counts)
    if isinstance(loss, Balanced) and not loss.counts:
        changes["counts"] = counts
    return dataclasses.replace(loss, **changes) if changes else loss
