"""The product of `flax.linen.Dense`, by the fastest method on a CPU."""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cifar_jax.devices import cpu
from cifar_jax.ops import onednn
from cifar_jax.ops.implementation import Implementation, run


def dot_general(
    x: Float[Array, "*n c"],
    kernel: Float[Array, "c k"],
    dimension_numbers: Any,
    implementation: Implementation = "auto",
    **options: Any,
) -> Float[Array, "*n k"]:
    """Replaces lax's function in `flax.linen.Dense`.

    Args:
        x: Rows of features.
        kernel: Kernel.
        dimension_numbers: Which axes are multiplied; Dense multiplies x's last one.
        implementation: Implementation to use; see `cifar_jax.ops`.
        options: Other arguments of `lax.dot_general`.
    """
    plain: Callable[..., Array] = functools.partial(
        lax.dot_general, dimension_numbers=dimension_numbers, **options
    )
    if x.dtype == jnp.bfloat16 and x.ndim == 2 and cpu.has_onednn():
        return run(implementation, onednn.dense, plain, x, kernel)
    return plain(x, kernel)
