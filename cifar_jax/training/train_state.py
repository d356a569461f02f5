"""All that changes while a network trains, as one pytree."""

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
from cifar_jax.data.dataset import check_images
from cifar_jax.data.normalization import Statistics
from cifar_jax.errors import UserError
from cifar_jax.optimization.averages import averaged_params
from cifar_jax.training.program import Program


@struct.dataclass
class TrainState:
    """State of a run after `step` steps.

    Attributes:
        step: the number of steps taken, and the number of the next one.
        params: of the network.
        batch_stats: BatchNorm's running averages; empty if the network has none.
        opt_state: of the optax chain, with the averaged params in it, if there are.
        averaged_batch_stats: `batch_stats`, averaged as the params are.
        loss_averages: each loss term, smoothed, for the summaries.
        statistics: of the training images, if inputs are normalized by them; constant.
        key: the root of all the run's randomness; constant.
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
        """All that the network computes with, as Flax calls it."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def averaged_variables(self) -> dict[str, PyTree]:
        """The moving averages of `variables`, by which a network is evaluated."""
        params = averaged_params(self.opt_state)
        return {
            "params": self.params if params is None else params,
            "batch_stats": self.averaged_batch_stats,
        }


class Streams(NamedTuple):
    """The independent uses of a run's root key."""

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
        train_images: inputs may be normalized by their statistics, and a network may be
            initialized from the first of them (`Network.init_from_data`).
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
    seen = seen_at_start(program, train_images)
    return from_statistics(program, key, *seen, initial)


def seen_at_start(
    program: Program, train_images: UInt8[Any, "n h w c"]
) -> tuple[Statistics | None, UInt8[np.ndarray, "m h w c"]]:
    """Returns what `from_statistics` is given of the training images."""
    # At least one, whose shape tells the network the number of channels.
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
    """Returns the state at step 0, as a function that can be transformed.

    Args:
        program: what is trained.
        key: the root key.
        statistics: of the training images, from `Preprocessing.statistics`.
        images: the first training images, one or as many as the network is initialized
            from.
        initial: variables by collection and layer, in place of random ones.
    """
    model = program.model
    # Without the barrier, XLA computes with images that are constants as it compiles.
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
            "put those that change in training into batch_stats, which is saved"
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
