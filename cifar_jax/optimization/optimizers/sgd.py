"""Stochastic gradient descent."""

import dataclasses
from typing import ClassVar

import optax

from cifar_jax.checks import check_range
from cifar_jax.optimization.optimizers.base import Optimizer


@dataclasses.dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent.

    Attributes:
        momentum: weight of the previous update's direction; 0 disables it.
        nesterov: whether to look ahead along the momentum (Sutskever et al., On the
            Importance of Initialization and Momentum in Deep Learning, 2013).
    """

    momentum: float = 0.0
    nesterov: bool = False
    decay_in_loss: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range("momentum", self.momentum, at_least=0, at_most=1)
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum")

    @property
    def has_momentum(self) -> bool:
        """Whether momentum is above 0."""
        return self.momentum > 0

    def transform(
        self, schedule: optax.Schedule, decay: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        sgd = optax.sgd(schedule, self.momentum or None, self.nesterov)
        return optax.chain(decay, sgd)
