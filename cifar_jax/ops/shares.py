"""Sums over a batch that XLA divides among devices."""

import math
from collections.abc import Callable

import jax
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array


def sum_over_shares(function: Callable[..., Array], *operands: Array) -> Array:
    """Applies a function that sums over the batch, the last axis of every operand.

    Under `jax.set_mesh`, each device applies it to its own share of the batch, and the
    results are added up. If left to XLA, the batch would be gathered wherever it is
    merged with another axis, and sums would be exchanged before they become smaller.
    """
    mesh = jax.sharding.get_abstract_mesh()
    axes = mesh.auto_axes
    devices = math.prod(mesh.shape[axis] for axis in axes)
    if devices == 1 or operands[0].shape[-1] % devices:
        return function(*operands)
    shares = tuple(PartitionSpec(*[None] * (x.ndim - 1), axes) for x in operands)
    return jax.shard_map(
        lambda *own: lax.psum(function(*own), axes),
        in_specs=shares,
        out_specs=PartitionSpec(),
        axis_names=set(axes),
    )(*operands)
