"""Losses whose targets are probabilities provided with the data."""

import dataclasses
from typing import ClassVar

import jax
import optax
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.optimization.losses.base import (
    Extra,
    Loss,
    Targets,
    check_loss,
    get_extra,
    per_example_loss,
)


@dataclasses.dataclass(frozen=True)
class SoftLabels:
    """A loss of class probabilities in place of labels.

    The probabilities may be the fractions of people who chose each class (Peterson et
    al., Human Uncertainty Makes Classification More Robust, 2019).

    Attributes:
        loss: a loss of probabilities.
        by: name of the array of probabilities, [n, classes].
    """

    loss: Loss
    by: str = "soft_labels"
    name: ClassVar[str] = "soft_label_loss"

    def __post_init__(self) -> None:
        check_loss(self.loss)

    def __call__(
        self, logits: Float[Array, "n classes"], targets: Targets, extra: Extra
    ) -> Float[Array, " n"]:
        """Returns the loss of each example; the labels are ignored."""
        soft = get_extra(extra, self.by, "soft_labels", logits.shape)
        return per_example_loss(self.loss, logits, soft, extra)


@dataclasses.dataclass(frozen=True)
class Distillation:
    """The divergence from a teacher's probabilities, mixed with a loss of the labels.

    share * T^2 * KL(teacher || network) + (1 - share) * loss, where the probabilities
    are softmax(logits / T). The factor T^2 keeps gradients from shrinking as the
    temperature T rises (Hinton et al., Distilling the Knowledge in a Neural Network,
    2015).

    Attributes:
        loss: a loss of the labels.
        temperature: T.
        share: weight of the divergence.
        by: name of the array of teacher logits, [n, classes].
    """

    loss: Loss
    temperature: float = 4.0
    share: float = 0.9
    by: str = "teacher"
    name: ClassVar[str] = "distillation_loss"

    def __post_init__(self) -> None:
        check_loss(self.loss)
        check_range("temperature", self.temperature, above=0)
        check_range("share", self.share, at_least=0, at_most=1)

    def __call__(
        self, logits: Float[Array, "n classes"], targets: Targets, extra: Extra
    ) -> Float[Array, " n"]:
        teacher = get_extra(extra, self.by, "distillation", logits.shape)
        divergence = optax.losses.kl_divergence_with_log_targets(
            jax.nn.log_softmax(logits / self.temperature),
            jax.nn.log_softmax(teacher / self.temperature),
        )
        of_labels = per_example_loss(self.loss, logits, targets, extra)
        weight = self.share * self.temperature**2
        return weight * divergence + (1 - self.share) * of_labels
