"""Loops and sums over a batch that XLA divides among devices."""

import math
from collections.abc import Callable

import jax
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array


def sum_over_shares(
    function: Callable[..., Array], *operands: Array, axis: int = -1
) -> Array:
    """Applies a function that sums over the batch.

    Under `jax.set_mesh`, each device applies it to its own share of the batch, and the
    results are added up. If left to XLA, the batch would be gathered wherever it is
    merged with another axis, and sums would be exchanged before they become smaller.

    Args:
        function: the function.
        operands: its arguments.
        axis: the batch axis of every operand: 0, or -1 for the last.
    """
    axes = _axes(operands[0].shape[axis])
    if not axes:
        return function(*operands)
    shares = tuple(PartitionSpec(*[None] * (axis % x.ndim), axes) for x in operands)
    return jax.shard_map(
        lambda *own: lax.psum(function(*own), axes),
        in_specs=shares,
        out_specs=PartitionSpec(),
        axis_names=set(axes),
    )(*operands)


def map_shares(function: Callable[..., Array], x: Array, *same: Array) -> Array:
    """Applies a function that loops over the batch, the first axis of x and the result.

    Under `jax.set_mesh`, each device applies it to its own share of the batch. If left
    to XLA, the batch would be gathered. The other arguments are the same for all.
    """
    axes = _axes(len(x))
    if not axes:
        return function(x, *same)
    return jax.shard_map(
        function,
        in_specs=(PartitionSpec(axes), *[PartitionSpec()] * len(same)),
        out_specs=PartitionSpec(axes),
        axis_names=set(axes),
    )(x, *same)


def _axes(size: int) -> tuple[str, ...]:
    """Returns the mesh's axes that XLA divides, if it can divide a batch of this size.

    It returns none if there is only one device.
    """
    mesh = jax.sharding.get_abstract_mesh()
    devices = math.prod(mesh.shape[axis] for axis in mesh.auto_axes)
    return () if devices == 1 or size % devices else mesh.auto_axes
