"""The product of the fast convolutions."""

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
    """Sum of products over axes of a and of b; operands rounded to dtype.

    Written by axes, not as a product of matrices that have been reshaped, because a
    batch that is merged with another axis cannot be spread over devices. And not by
    einsum, which may turn the product round and transpose its large result.

    Args:
        a: an operand, the smaller one for speed.
        b: the other.
        contract: axes of a and of b that are summed over.
        each: axes of both, the first ones, that stay apart.
        dtype: of the operands; the sum is float32.

    Returns:
        The axes `each`, the other axes of a, the other axes of b.
    """
    return lax.dot_general(
        a.astype(dtype),
        b.astype(dtype),
        (contract, (each, each)),
        preferred_element_type=jnp.float32,
    )
