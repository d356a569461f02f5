"""Adam with decoupled weight decay."""

import dataclasses
from typing import ClassVar

import optax

from cifar_jax.checks import check_range
from cifar_jax.optimization.optimizers.base import Optimizer


@dataclasses.dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    decay_in_loss: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_range("b1", self.b1, at_least=0, below=1)
        check_range("b2", self.b2, at_least=0, below=1)
        check_range("eps", self.eps, above=0)

    @property
    def has_momentum(self) -> bool:
        """Whether b1 is above 0."""
        return self.b1 > 0

    def transform(
        self, schedule: optax.Schedule, decay: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        return optax.chain(
            optax.scale_by_adam(self.b1, self.b2, self.eps),
            decay,
            optax.scale_by_learning_rate(schedule),
        )
