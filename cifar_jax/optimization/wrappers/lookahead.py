"""Lookahead: slow weights that move part of the way to the fast ones periodically."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from cifar_jax.checks import check_range
from cifar_jax.optimization.optimizers.base import Wrapper


@dataclasses.dataclass(frozen=True)
class Lookahead(Wrapper):
    """Slow weights that follow those of another optimizer; see `lookahead`.

    Attributes:
        period: number of fast steps per step of the slow weights.
        step_size: fraction of the way that the slow weights move.
        cubic: whether that fraction falls from 1 to step_size, as 1 - (1 - step_size) *
            (step / max_steps) ** 3, and the run ends on the slow weights (Jordan, 94%
            on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024, section 3.4).
    """

    period: int = 5
    step_size: float = 0.5
    cubic: bool = False
    has_weights: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimizer.has_weights:
            raise ValueError(
                f"optimizer={self.optimizer!r} already keeps weights of its own"
            )
        check_range("period", self.period, at_least=1)
        check_range("step_size", self.step_size, above=0, at_most=1)

    @property
    def open_ended(self) -> bool:
        """Whether the fraction is constant and the inner optimizer open-ended."""
        return not self.cubic and self.optimizer.open_ended

    def wrap(
        self,
        tx: optax.GradientTransformation,
        schedule: optax.Schedule,
        max_steps: int,
    ) -> optax.GradientTransformation:
        """Returns tx, which takes the fast steps, with slow weights added."""
        if not self.cubic:
            return lookahead(tx, self.period, lambda _: self.step_size)
        return lookahead(
            tx,
            self.period,
            lambda step: 1 - (1 - self.step_size) * (step / max_steps) ** 3,
            max_steps,
        )


class LookaheadState(NamedTuple):
    """State of `lookahead`."""

    num_updates: Int[Array, ""]
    slow: PyTree
    fast: optax.OptState


def lookahead(
    fast: optax.GradientTransformation,
    period: int,
    step_size: optax.Schedule,
    last_step: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Returns the optimizer `fast` with slow weights in its state.

    Every `period` steps, the slow weights move a fraction `step_size` toward the
    params, which then continue from there (Zhang et al., Lookahead Optimizer: k Steps
    Forward, 1 Step Back, 2019, algorithm 1). `optax.lookahead` needs the params as
    pairs of fast and slow ones; here they are plain params.

    Args:
        fast: the optimizer.
        period: number of steps between moves of the slow weights.
        step_size: the fraction, as a function of the number of steps taken.
        last_step: the number of steps after which the params become the slow weights,
            whether or not these have just moved; None: never.
    """
    fast = optax.with_extra_args_support(fast)

    def init(params: PyTree) -> LookaheadState:
        slow = jax.tree.map(jnp.copy, params)
        return LookaheadState(jnp.zeros([], jnp.int32), slow, fast.init(params))

    def update(
        gradients: PyTree,
        state: LookaheadState,
        params: PyTree | None = None,
        **extra: Any,
    ) -> tuple[PyTree, LookaheadState]:
        if params is None:
            raise ValueError("lookahead needs the params in update()")
        updates, fast_state = fast.update(gradients, state.fast, params, **extra)
        n = optax.safe_increment(state.num_updates)
        synchronize = n % period == 0
        # This form keeps rounding from moving frozen params.
        slow = jax.tree.map(
            lambda s, p, u: jnp.where(synchronize, s + step_size(n) * (p + u - s), s),
            state.slow,
            params,
            updates,
        )
        back_to_slow = synchronize
        if last_step is not None:
            back_to_slow |= n == last_step
        updates = jax.tree.map(
            lambda s, p, u: jnp.where(back_to_slow, s - p, u), slow, params, updates
        )
        return updates, LookaheadState(n, slow, fast_state)

    return optax.GradientTransformationExtraArgs(init, update)
