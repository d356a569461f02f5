"""All that changes while a network trains, as one pytree."""

import functools

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int32, Key, PyTree

from cifar_jax import objective
from cifar_jax.data.augment import CROP_SIZE


@struct.dataclass
class TrainState:
    """State of a run after `step` steps.

    Attributes:
        step: how many steps have been taken, and the number of the next one.
        params: of the network.
        opt_state: of the optax chain, the averaged parameters among it.
        loss_averages: each loss term, smoothed, for the summaries.
        key: the root of all the run's randomness; it never changes.
    """

    step: Int32[Array, ""]
    params: PyTree
    opt_state: optax.OptState
    loss_averages: dict[str, Float[Array, ""]]
    key: Key[Array, ""]


def streams(key: Key[Array, ""]) -> tuple[Array, Array, Array]:
    """The root key's three independent uses: initialisation, order, distortion."""
    init_key, order_key, distort_key = jax.random.split(key, 3)
    return init_key, order_key, distort_key


@functools.partial(jax.jit, static_argnames=("model", "tx"))
def create(
    key: Key[Array, ""], *, model: nn.Module, tx: optax.GradientTransformation
) -> TrainState:
    """The state at step 0, drawn from the root key."""
    init_key, _, _ = streams(key)
    images = jnp.zeros((1, CROP_SIZE, CROP_SIZE, 3))
    params = model.init(init_key, images)["params"]
    return TrainState(
        step=jnp.int32(0),
        params=params,
        opt_state=tx.init(params),
        loss_averages={
            name: jnp.float32(0) for name in objective.loss_names(model.decayed_layers)
        },
        key=key,
    )
