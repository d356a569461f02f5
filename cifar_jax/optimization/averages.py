"""Exponential moving averages of variables, with the tutorial's ramp of the decay."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from cifar_jax.errors import UserError

# Of the losses, in the tutorial's `_add_loss_summaries`.
LOSS_AVERAGE_DECAY = 0.9


class AverageState(NamedTuple):
    """State of `average_params`."""

    num_updates: Int[Array, ""]
    average: PyTree


def update_average(
    new: PyTree, average: PyTree, num_updates: Int[Array, ""], max_decay: float
) -> PyTree:
    """Returns decay * average + (1 - decay) * new.

    The decay ramps up as min(max_decay, (1 + n) / (10 + n)), where n is the number of
    updates so far, this one included, so that early averages forget the initialization
    (`tf.train.ExponentialMovingAverage` with num_updates).
    """
    decay = jnp.minimum(max_decay, (1.0 + num_updates) / (10.0 + num_updates))
    return optax.incremental_update(new, average, 1.0 - decay)


def average_params(max_decay: float) -> optax.GradientTransformation:
    """Returns a transformation that keeps the average of the params in its state.

    Place it last in a chain: it needs the final updates, and it passes them on
    unchanged. (`optax.ema` averages the updates, not the params.) The first average is
    the initial params.

    Args:
        max_decay: the upper limit of the decay, see `update_average`.
    """

    def init(params: PyTree) -> AverageState:
        # Copies: the train state is donated, and no buffer can be donated twice.
        return AverageState(
            num_updates=jnp.zeros([], jnp.int32), average=jax.tree.map(jnp.copy, params)
        )

    def update(
        updates: PyTree, state: AverageState, params: PyTree | None = None
    ) -> tuple[PyTree, AverageState]:
        if params is None:
            raise ValueError("average_params needs the params in update()")
        n = optax.safe_increment(state.num_updates)
        new_params = optax.apply_updates(params, updates)
        average = update_average(new_params, state.average, n, max_decay)
        return updates, AverageState(n, average)

    return optax.GradientTransformation(init, update)


def averaged_params(opt_state: PyTree) -> PyTree:
    """Returns the averages that `average_params` keeps in the state of a chain.

    Raises:
        UserError: the state contains no averages.
    """
    average = optax.tree.get(opt_state, "average")
    if average is None:
        raise UserError("opt_state has no averages: it is not TrainState.opt_state")
    return average
