"""XLA's own convolution, with a gradient that is faster in XLA's CPU code."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cifar_jax.ops import multilinear
from cifar_jax.ops.implementation import Pair

_conv: Callable[..., Array] = functools.partial(
    lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC")
)


def conv(
    strides: Pair,
    padding: tuple[Pair, Pair],
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw c k"],
) -> Float[Array, "n oh ow k"]:
    """Convolves; finite values and gradients equal lax's bit for bit."""
    convolve = functools.partial(_conv, window_strides=strides, padding=padding)
    x_type, kernel_type = jax.typeof(x), jax.typeof(kernel)

    def grad_x(kernel: Array, dy: Array) -> Array:
        return jax.linear_transpose(lambda x: convolve(x, kernel), x_type)(dy)[0]

    def grad_kernel(x: Array, dy: Array) -> Array:
        # XLA transposes x here, and would fuse that with everything that x was computed
        # from, with slow, strided access to all of these arrays. It fuses nothing with
        # a convolution, such as this one with the identity.
        identity = jnp.eye(x.shape[3], dtype=x.dtype)[None, None]
        x = _conv(x, identity, (1, 1), "VALID")
        return jax.linear_transpose(lambda k: convolve(x, k), kernel_type)(dy)[0]

    return multilinear.apply((grad_x, grad_kernel, convolve), x, kernel)
