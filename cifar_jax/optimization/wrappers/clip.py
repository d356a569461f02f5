"""Gradient clipping by norm."""

import dataclasses

import optax

from cifar_jax.checks import check_range
from cifar_jax.optimization.optimizers.base import Wrapper


@dataclasses.dataclass(frozen=True)
class Clip(Wrapper):
    """Scales down gradients whose norm over all trained params exceeds a limit.

    Pascanu et al., On the Difficulty of Training Recurrent Neural Networks, 2013. The
    gradients are those of the loss without the weight decay penalty.

    Attributes:
        global_norm: the limit.
    """

    global_norm: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("global_norm", self.global_norm, above=0)

    def wrap(
        self,
        tx: optax.GradientTransformation,
        schedule: optax.Schedule,
        max_steps: int,
    ) -> optax.GradientTransformation:
        """Returns tx, given the clipped gradients."""
        return optax.chain(optax.clip_by_global_norm(self.global_norm), tx)
