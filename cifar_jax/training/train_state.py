"""Everything that changes while a network trains, as one pytree."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float, Int32, Key, PyTree, UInt8

from cifar_jax.checks import check_type
from cifar_jax.data.normalization import Statistics
from cifar_jax.data.split import check_images
from cifar_jax.errors import UserError
from cifar_jax.optimization.averages import averaged_params
from cifar_jax.training.program import Program


@struct.dataclass
class TrainState:
    """State of a run after `step` steps.

    Attributes:
        step: the number of steps taken, which is also the number of the next step.
        params: the network's params.
        batch_stats: BatchNorm running averages; empty if the network has none.
        opt_state: the state of the optax chain, including the averaged params, if any.
        averaged_batch_stats: `batch_stats`, averaged like the params.
        loss_averages: smoothed loss terms, for summaries.
        statistics: those of the training images, if they normalize inputs; constant.
        key: the root key for all randomness in the run; constant.
    """

    step: Int32[Array, ""]
    params: PyTree
    batch_stats: PyTree
    opt_state: optax.OptState
    averaged_batch_stats: PyTree
    loss_averages: dict[str, Float[Array, ""]]
    statistics: Statistics | None
    key: Key[Array, ""]

    @property
    def variables(self) -> dict[str, PyTree]:
        """Everything the network computes with, in Flax's terms."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def averaged_variables(self) -> dict[str, PyTree]:
        """The averages of `variables`, used to evaluate the network."""
        params = averaged_params(self.opt_state)
        return {
            "params": self.params if params is None else params,
            "batch_stats": self.averaged_batch_stats,
        }


class Streams(NamedTuple):
    """Independent keys derived from a run's root key."""

    initialization: Key[Array, ""]
    order: Key[Array, ""]
    distortion: Key[Array, ""]
    dropout: Key[Array, ""]


def streams(key: Key[Array, ""]) -> Streams:
    """Splits the root key of a run."""
    return Streams(*jax.random.split(key, len(Streams._fields)))


def create(
    program: Program,
    key: Key[Array, ""],
    train_images: UInt8[Any, "n h w c"],
    initial: Mapping[str, PyTree] | None = None,
) -> TrainState:
    """Returns the state at step 0.

    Args:
        program: what is trained.
        key: the root key, such as jax.random.key(0).
        train_images: their statistics may normalize inputs, and the first of them may
            initialize the network (`Network.init_from_data`).
        initial: variables by collection and layer, in place of random ones.

    Raises:
        UserError: an argument cannot be used.
    """
    is_array = isinstance(key, jax.Array)
    if not is_array or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise UserError(f"key={key!r} must be a key, such as jax.random.key(0)")
    check_type(program, "program", Program)
    check_images(train_images, "train_images")
    program.preprocessing.check(train_images.shape[1:])
    return from_statistics(program, key, *seen_at_start(program, train_images), initial)


def seen_at_start(
    program: Program, train_images: UInt8[Any, "n h w c"]
) -> tuple[Statistics | None, UInt8[np.ndarray, "m h w c"]]:
    """Returns the statistics and images that `from_statistics` needs."""
    # At least one image, whose shape tells the network the number of channels.
    first = train_images[: max(1, program.model.images_for_init)]
    return program.preprocessing.statistics(train_images), first


@functools.partial(jax.jit, static_argnames="program")
def from_statistics(
    program: Program,
    key: Key[Array, ""],
    statistics: Statistics | None,
    images: UInt8[Array | np.ndarray, "n h w c"],
    initial: Mapping[str, PyTree] | None = None,
) -> TrainState:
    """Returns the state at step 0; unlike `create`, it can be transformed by JAX.

    Args:
        program: what is trained.
        key: the root key.
        statistics: those of the training images, from `Preprocessing.statistics`.
        images: the first training images: one, or as many as the network is initialized
            from.
        initial: variables by collection and layer, in place of random ones.
    """
    model = program.model
    # Without the barrier, XLA computes with constant images while it compiles.
    first = jax.lax.optimization_barrier(jnp.asarray(images))
    views = jax.vmap(program.preprocessing.prepare_eval, (0, None))(first, statistics)
    inputs = views[:, 0]
    variables: Mapping[str, PyTree] = model.init(
        streams(key).initialization, jnp.zeros((1, *inputs.shape[1:]))
    )
    if model.images_for_init:
        variables = model.init_from_data(variables, inputs)
    unknown = variables.keys() - {"params", "batch_stats", "losses", "intermediates"}
    if unknown:
        raise UserError(
            f"{type(model).__name__} has variables in {', '.join(sorted(unknown))}; "
            "put those that change during training in batch_stats, which is saved"
        )
    params, batch_stats = (
        variables.get(collection, {}) | (initial or {}).get(collection, {})
        for collection in ("params", "batch_stats")
    )
    losses = program.loss_terms({program.loss.name: jnp.float32(0)}, params)
    return TrainState(
        step=jnp.int32(0),
        params=params,
        batch_stats=batch_stats,
        opt_state=program.tx.init(params),
        averaged_batch_stats=jax.tree.map(jnp.copy, batch_stats),
        loss_averages=dict.fromkeys(losses, jnp.float32(0)),
        statistics=statistics,
        key=key,
    )
