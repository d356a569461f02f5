"""Sums over a batch that XLA divides among devices."""

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
    mesh = jax.sharding.get_abstract_mesh()
    axes = mesh.auto_axes
    devices = math.prod(mesh.shape[axis] for axis in axes)
    if devices == 1 or operands[0].shape[axis] % devices:
        return function(*operands)
    shares = tuple(PartitionSpec(*[None] * (axis % x.ndim), axes) for x in operands)
    return jax.shard_map(
        lambda *own: lax.psum(function(*own), axes),
        in_specs=shares,
        out_specs=PartitionSpec(),
        axis_names=set(axes),
    )(*operands)
