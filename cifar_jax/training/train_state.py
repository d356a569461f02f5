"""All that changes while a network trains, as one pytree."""

import functools

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Float, Int32, Key, PyTree

from cifar_jax.checks import check_integer, check_type
from cifar_jax.data.inputs import Statistics
from cifar_jax.errors import UserError
from cifar_jax.models import Network
from cifar_jax.optimization import losses as objective


@struct.dataclass
class TrainState:
    """State of a run after `step` steps.

    Attributes:
        step: how many steps have been taken, and the number of the next one.
        params: of the network.
        batch_stats: BatchNorm's running averages; empty if the network has none.
        opt_state: of the optax chain, the averaged variables among it.
        loss_averages: each loss term, smoothed, for the summaries.
        statistics: of the training images, if inputs are normalised by them; they
            never change.
        key: the root of all the run's randomness; it never changes.
    """

    step: Int32[Array, ""]
    params: PyTree
    batch_stats: PyTree
    opt_state: optax.OptState
    loss_averages: dict[str, Float[Array, ""]]
    statistics: Statistics | None
    key: Key[Array, ""]

    @property
    def variables(self) -> dict[str, PyTree]:
        """All that the network computes with, as Flax calls it."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def streams(key: Key[Array, ""]) -> tuple[Array, Array, Array]:
    """The root key's three independent uses: initialisation, order, distortion."""
    init_key, order_key, distort_key = jax.random.split(key, 3)
    return init_key, order_key, distort_key


def create(
    key: Key[Array, ""],
    statistics: Statistics | None,
    *,
    model: Network,
    tx: optax.GradientTransformation,
    size: int,
) -> TrainState:
    """The state at step 0, drawn from the root key.

    Args:
        key: the root key.
        statistics: of the training images, see `Inputs.statistics`.
        model: the network.
        tx: the optax chain.
        size: height and width of the network's inputs.

    Raises:
        UserError: an argument cannot be used.
    """
    is_array = isinstance(key, jax.Array)
    if not is_array or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise UserError(f"key={key!r} must be a key, as of jax.random.key(0)")
    check_type(model, "model", Network)
    size = check_integer(size, "size", at_least=model.smallest_image)
    return _create(key, statistics, model=model, tx=tx, size=size)


@functools.partial(jax.jit, static_argnames=("model", "tx", "size"))
def _create(
    key: Array,
    statistics: Statistics | None,
    *,
    model: Network,
    tx: optax.GradientTransformation,
    size: int,
) -> TrainState:
    init_key, _, _ = streams(key)
    variables = model.init(init_key, jnp.zeros((1, size, size, 3)))
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    losses = objective.loss_terms(jnp.float32(0), params, model.weight_decays, 0)
    return TrainState(
        step=jnp.int32(0),
        params=params,
        batch_stats=batch_stats,
        opt_state=tx.init({"params": params, "batch_stats": batch_stats}),
        loss_averages=dict.fromkeys(losses, jnp.float32(0)),
        statistics=statistics,
        key=key,
    )
