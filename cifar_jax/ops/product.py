"""The matrix product of the fast convolutions."""

import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array


def product(dtype: Dtype, a: Array, b: Array) -> Array:
    """The product a @ b of operands rounded to dtype, summed in float32."""
    narrow = a.astype(dtype), b.astype(dtype)
    return jnp.matmul(*narrow, preferred_element_type=jnp.float32)
