"""Lion: the sign of the momentum."""

import dataclasses
from typing import ClassVar

import optax

from cifar_jax.checks import check_range
from cifar_jax.optimization.optimizers.base import Optimizer


@dataclasses.dataclass(frozen=True)
class Lion(Optimizer):
    """Sign of the momentum (Chen et al., Symbolic Discovery of Optimization, 2023)."""

    b1: float = 0.9
    b2: float = 0.99
    decay_in_loss: ClassVar[bool] = False
    has_momentum: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range("b1", self.b1, at_least=0, below=1)
        check_range("b2", self.b2, at_least=0, below=1)

    def transform(
        self, schedule: optax.Schedule, decay: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        return optax.chain(
            optax.scale_by_lion(self.b1, self.b2),
            decay,
            optax.scale_by_learning_rate(schedule),
        )
