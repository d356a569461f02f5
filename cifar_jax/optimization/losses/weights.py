"""A loss that weights some examples more than others."""

import dataclasses
from typing import ClassVar

from jaxtyping import Array, Float

from cifar_jax.optimization.losses.base import (
    Extra,
    Loss,
    Targets,
    check_loss,
    get_extra,
    per_example_loss,
)


@dataclasses.dataclass(frozen=True)
class Weighted:
    """Each example's loss times its weight.

    The sum is divided by the number of examples, not by the sum of their weights, so a
    batch of important examples takes a larger step (Byrd and Lipton, What is the Effect
    of Importance Weighting in Deep Learning?, 2019).

    Attributes:
        loss: the loss to weight.
        by: name of the array of weights, [n].
    """

    loss: Loss
    by: str = "weight"
    name: ClassVar[str] = "weighted_loss"

    def __post_init__(self) -> None:
        check_loss(self.loss)

    def __call__(
        self, logits: Float[Array, "n classes"], targets: Targets, extra: Extra
    ) -> Float[Array, " n"]:
        weights = get_extra(extra, self.by, "weighted", logits.shape[:1])
        return weights * per_example_loss(self.loss, logits, targets, extra)
