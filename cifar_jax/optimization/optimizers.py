"""The optax chain: weight decay, SGD by a schedule, averages.

What it is given as "params" are the variables of a network, as Flax calls them:
{"params": ..., "batch_stats": ...}. Only params have gradients; those of batch_stats
are zero, so that they pass through unchanged and are averaged like the others.
"""

import collections
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from cifar_jax.errors import UserError

Schedule = Literal["staircase", "drops", "cosine"]


class AverageState(NamedTuple):
    """State of `average_variables`."""

    num_updates: Int[Array, ""]
    average: PyTree


def average_variables(max_decay: float) -> optax.GradientTransformation:
    """Keeps an exponential moving average of the variables in its state.

    Place it last in a chain: it needs the final updates, and passes them on
    unchanged. `optax.ema` averages the updates instead.

    The decay ramps up as min(max_decay, (1 + n) / (10 + n)), n the number of
    updates made so far, so that early averages forget the initialisation
    (`tf.train.ExponentialMovingAverage` with num_updates). The first average is
    the initial values.
    """

    def init(params: PyTree) -> AverageState:
        # Copies: train state is donated, and no buffer may be donated twice.
        return AverageState(
            num_updates=jnp.zeros([], jnp.int32), average=jax.tree.map(jnp.copy, params)
        )

    def update(
        updates: PyTree, state: AverageState, params: PyTree | None = None
    ) -> tuple[PyTree, AverageState]:
        if params is None:
            raise ValueError("average_variables needs the variables in update()")
        n = optax.safe_increment(state.num_updates)
        decay = jnp.minimum(max_decay, (1.0 + n) / (10.0 + n))
        new_params = optax.apply_updates(params, updates)
        average = optax.incremental_update(new_params, state.average, 1.0 - decay)
        return updates, AverageState(n, average)

    return optax.GradientTransformation(init, update)


def averaged_variables(opt_state: PyTree) -> PyTree:
    """The averages that `average_variables` keeps, out of the chain's state.

    Raises:
        UserError: it is not the state of such a chain.
    """
    average = optax.tree.get(opt_state, "average")
    if average is None:
        raise UserError("opt_state has no averages: it is not TrainState.opt_state")
    return average


def staircase_schedule(
    learning_rate: float, decay_factor: float, decay_steps: int
) -> optax.Schedule:
    """learning_rate * decay_factor ** floor(step / decay_steps)."""
    return optax.exponential_decay(
        learning_rate, decay_steps, decay_factor, staircase=True
    )


def drops_schedule(
    learning_rate: float, decay_factor: float, drops: list[int]
) -> optax.Schedule:
    """learning_rate, times decay_factor from each of these steps on.

    A step that is there twice, as in a short run it may be, makes two drops.
    """
    factors = {step: decay_factor**n for step, n in collections.Counter(drops).items()}
    return optax.piecewise_constant_schedule(learning_rate, factors)


def cosine_schedule(learning_rate: float, max_steps: int) -> optax.Schedule:
    """learning_rate * (1 + cos(pi * step / max_steps)) / 2.

    Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, 2016.
    """
    return optax.cosine_decay_schedule(learning_rate, max_steps)


def warmed_up(schedule: optax.Schedule, steps: int) -> optax.Schedule:
    """The schedule times 1/steps, 2/steps, ... in its first steps (Goyal et al. 2017).

    It starts above 0: a step at 0 would be wasted.
    """
    return lambda step: schedule(step) * jnp.minimum(1.0, (step + 1) / steps)


def create(
    schedule: optax.Schedule,
    *,
    weight_decay: float,
    weight_decays: Mapping[str, float] | None,
    ema_decay: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    bias_learning_rate_factor: float = 1.0,
) -> optax.GradientTransformation:
    """SGD on the gradients plus weight_decay * W of the kernels, then averages.

    Args:
        schedule: learning rate as a function of the step.
        weight_decay: coefficient of W in the gradient.
        weight_decays: factor of it by layer, see `Network`; None: 1 for every kernel.
        ema_decay: ceiling of the averages' decay.
        momentum: weight of the last update's direction in the next.
        nesterov: look ahead along the momentum (Sutskever et al. 2013).
        bias_learning_rate_factor: the learning rate of biases is so many times that
            of all else.
    """

    def decay(path: tuple, gradient: Array, value: Array) -> Array:
        factor = decay_factor(path[1:], weight_decays) if _is_param(path) else 0
        return gradient + weight_decay * factor * value if factor else gradient

    def rate(path: tuple, update: Array, _: Array) -> Array:
        is_bias = _is_param(path) and path[-1].key == "bias"
        return update * bias_learning_rate_factor if is_bias else update

    return optax.chain(
        _by_path(decay),
        optax.sgd(schedule, momentum or None, nesterov),
        _by_path(rate),
        average_variables(ema_decay),
    )


def decay_factor(path: tuple, weight_decays: Mapping[str, float] | None) -> float:
    """Factor of the weight decay of one leaf of the params, 0 for all but kernels."""
    if path[-1].key != "kernel":
        return 0.0
    return 1.0 if weight_decays is None else weight_decays.get(path[0].key, 0.0)


def _is_param(path: tuple) -> bool:
    return path[0].key == "params"


def _by_path(function: Callable[[tuple, Array, Array], Array]) -> Any:
    """A transformation of (path, update, value) of every leaf."""
    return optax.stateless(
        lambda updates, params: jax.tree_util.tree_map_with_path(
            function, updates, params
        )
    )
