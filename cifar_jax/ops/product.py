"""The tensor product that the fast convolutions use."""

import jax.numpy as jnp
from flax.typing import Dtype
from jax import lax
from jaxtyping import Array

Axes = tuple[int, ...]


def product(
    a: Array,
    b: Array,
    contract: tuple[Axes, Axes],
    *,
    each: Axes = (),
    dtype: Dtype = jnp.float32,
) -> Array:
    """Contracts axes of a and b, with the operands rounded to dtype.

    This is not a product of reshaped matrices, because a batch that is merged with
    another axis cannot be sharded across devices. Nor is it an einsum, which may swap
    the operands and transpose the large result.

    Args:
        a: First operand; for speed, the smaller one.
        b: Second operand.
        contract: Axes of a and of b to sum over.
        each: Leading axes of both operands that serve as batch axes.
        dtype: Data type of the operands; the sum is float32.

    Returns:
        An array with the axes `each`, the other axes of a and the other axes of b.
    """
    return lax.dot_general(
        a.astype(dtype),
        b.astype(dtype),
        (contract, (each, each)),
        preferred_element_type=jnp.float32,
    )
