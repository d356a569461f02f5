"""Sums over a batch that XLA divides among devices."""

from collections.abc import Callable

import jax
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array


def summed(function: Callable[..., Array], *operands: Array) -> Array:
    """Applies a function that sums over the batch, the last axis of every operand.

    Under `jax.set_mesh`, each device applies it to its own share of the batch, and the
    results are added up. Left to XLA, the batch would be gathered wherever it is merged
    with another axis, and sums would be exchanged before they are made smaller.
    """
    mesh = jax.sharding.get_abstract_mesh()
    axes = mesh.auto_axes
    if mesh.size <= 1 or not axes or operands[0].shape[-1] % mesh.size:
        return function(*operands)
    shares = tuple(PartitionSpec(*[None] * (x.ndim - 1), axes) for x in operands)
    return jax.shard_map(
        lambda *own: lax.psum(function(*own), axes),
        in_specs=shares,
        out_specs=PartitionSpec(),
    )(*operands)
