"""Lookahead: slow weights that go part of the way of the fast ones, every few steps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree


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
) -> optax.GradientTransformation:
    """Returns the optimizer `fast` with slow weights in its state.

    After every `period` steps the slow weights move the fraction `step_size` towards
    the params, which then continue from there (Zhang et al., Lookahead Optimizer: k
    Steps Forward, 1 Step Back, 2019, algorithm 1). `optax.lookahead` needs the params
    in pairs of fast and slow ones; here they are just the params.

    Args:
        fast: the optimizer.
        period: steps between two moves of the slow weights.
        step_size: the fraction, as a function of the number of steps taken.
        last_step: the number of steps after which the params become the slow weights,
            whether these have just moved or not; None: never.
    """

    def init(params: PyTree) -> LookaheadState:
        slow = jax.tree.map(jnp.copy, params)
        return LookaheadState(jnp.zeros([], jnp.int32), slow, fast.init(params))

    def update(
        gradients: PyTree, state: LookaheadState, params: PyTree | None = None
    ) -> tuple[PyTree, LookaheadState]:
        if params is None:
            raise ValueError("lookahead needs the params in update()")
        updates, fast_state = fast.update(gradients, state.fast, params)
        n = optax.safe_increment(state.num_updates)
        synchronize = n % period == 0
        # Frozen params must not move by rounding either.
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

    return optax.GradientTransformation(init, update)
