"""The optax chain: weight decay, SGD with staircase decay, parameter averages."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree


class ParameterAverageState(NamedTuple):
    """State of `average_parameters`."""

    num_updates: Int[Array, ""]
    average: PyTree


def average_parameters(max_decay: float) -> optax.GradientTransformation:
    """Keeps an exponential moving average of the parameters in its state.

    Place it last in a chain: it needs the final updates, and passes them on
    unchanged. `optax.ema` averages the updates instead.

    The decay ramps up as min(max_decay, (1 + n) / (10 + n)), n the number of
    updates made so far, so that early averages forget the initialisation
    (`tf.train.ExponentialMovingAverage` with num_updates). The first average is
    the initial parameters.
    """

    def init(params: PyTree) -> ParameterAverageState:
        # Copies: train state is donated, and no buffer may be donated twice.
        return ParameterAverageState(
            num_updates=jnp.zeros([], jnp.int32), average=jax.tree.map(jnp.copy, params)
        )

    def update(
        updates: PyTree, state: ParameterAverageState, params: PyTree | None = None
    ) -> tuple[PyTree, ParameterAverageState]:
        if params is None:
            raise ValueError("average_parameters needs the parameters in update()")
        n = optax.safe_increment(state.num_updates)
        decay = jnp.minimum(max_decay, (1.0 + n) / (10.0 + n))
        new_params = optax.apply_updates(params, updates)
        average = optax.incremental_update(new_params, state.average, 1.0 - decay)
        return updates, ParameterAverageState(n, average)

    return optax.GradientTransformation(init, update)


def averaged_params(opt_state: PyTree) -> PyTree:
    """The averages that `average_parameters` keeps, out of the chain's state."""
    return optax.tree.get(opt_state, "average")


def staircase_schedule(
    learning_rate: float, decay_factor: float, decay_steps: int
) -> optax.Schedule:
    """learning_rate * decay_factor ** floor(step / decay_steps)."""
    return optax.exponential_decay(
        learning_rate, decay_steps, decay_factor, staircase=True
    )


def create(
    schedule: optax.Schedule,
    decayed_layers: tuple[str, ...],
    weight_decay: float,
    ema_decay: float,
) -> optax.GradientTransformation:
    """Plain SGD on cross-entropy gradients plus weight_decay * W, then averages.

    Args:
        schedule: learning rate as a function of the step.
        decayed_layers: the top-level modules whose kernels decay.
        weight_decay: coefficient of W in the gradient.
        ema_decay: ceiling of the averages' decay.
    """

    def mask(params: PyTree) -> PyTree:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: path[0].key in decayed_layers and path[-1].key == "kernel",
            params,
        )

    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask),
        optax.sgd(schedule),
        average_parameters(ema_decay),
    )
