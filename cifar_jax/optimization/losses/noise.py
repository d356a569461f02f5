"""A loss that deliberately gets some labels wrong."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from cifar_jax import noise
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
class LabelNoise:
    """Replaces each label, with some probability, by another class drawn uniformly.

    This is symmetric noise (Patrini et al., Making Deep Neural Networks Robust to Label
    Noise, 2017). Whether a label is replaced, and by which class, depends only on the
    seed and the image, so it is the same in every epoch. `--data_changes=label_noise`
    makes the same labels wrong in the data, so that mixtures, class counts and metrics
    see them too.

    Attributes:
        loss: a loss of labels.
        fraction: probability that a label is replaced.
        seed: seed of the random draws.
    """

    loss: Loss
    fraction: float = 0.2
    seed: int = 0
    name: ClassVar[str] = "noisy_label_loss"

    def __post_init__(self) -> None:
        check_loss(self.loss)
        check_range("fraction", self.fraction, at_least=0, at_most=1)
        check_range("seed", self.seed, at_least=0, at_most=2**32 - 1)

    def __call__(
        self, logits: Float[Array, "n classes"], targets: Targets, extra: Extra
    ) -> Float[Array, " n"]:
        if targets.ndim != 1:
            raise UserError(
                "--loss=label_noise needs labels, but the targets are class "
                "probabilities; leave out mixup and cutmix, or soft_labels around it"
            )
        indices, classes = jnp.asarray(extra["index"]), logits.shape[-1]
        wrong, distances = noise.draw(self.seed, self.fraction, classes, indices)
        labels = jnp.where(wrong, (targets + distances) % classes, targets)
        return per_example_loss(self.loss, logits, labels, extra)
