"""The matrix product of the fast convolutions."""

import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array


def product(subscripts: str, dtype: Dtype, a: Array, b: Array) -> Array:
    """Einsum of two operands rounded to dtype, summed in float32.

    Written by its axes, and not as a product of matrices that have been reshaped,
    because a batch that is merged with another axis cannot be spread over devices.
    """
    narrow = a.astype(dtype), b.astype(dtype)
    return jnp.einsum(subscripts, *narrow, preferred_element_type=jnp.float32)
