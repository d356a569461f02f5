"""Layers in bfloat16 where XLA leaves convolutions on CPUs to oneDNN.

XLA recognizes plain convolutions, but not the gradients of a convolution as JAX writes
them. So the gradient with respect to the input is written as a convolution with the
flipped kernel, and that with respect to the kernel as products of matrices. XLA must
not leave these to oneDNN (see `devices.compilation.compile_lowered`), so the last axis
of their first operand is summed, which makes them YNNPACK's.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float

from cifar_jax.ops import multilinear, shares
from cifar_jax.ops.implementation import Pair

_conv = functools.partial(
    lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC")
)
# Number of a channel's values to sum in one product.
MAX_SUMMED = 2048
# XLA would otherwise merge copies into slow loops, and a flipped kernel into a kind of
# convolution that it does not leave to oneDNN.
_separate: Callable[[Array], Array] = lax.optimization_barrier


def conv(
    strides: Pair,
    padding: tuple[Pair, Pair],
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw c k"],
) -> Float[Array, "n oh ow k"]:
    """Convolves; gradients differ from lax's by the rounding of their sums."""
    maps = (
        functools.partial(_grad_x, strides, padding, x.shape),
        functools.partial(_grad_kernel, strides, padding, kernel.shape),
        functools.partial(_conv, window_strides=strides, padding=padding),
    )
    return multilinear.apply(maps, x, kernel)


def dense(x: Float[Array, "n c"], kernel: Float[Array, "c k"]) -> Float[Array, "n k"]:
    """Multiplies each row by the kernel."""

    def grad_x(kernel: Array, dy: Array) -> Array:
        return lax.dot_general(dy, kernel, (((1,), (1,)), ((), ())))

    def grad_kernel(x: Array, dy: Array) -> Array:
        return shares.sum_over_shares(lambda x, dy: _transpose(x) @ dy, x, dy, axis=0)

    return multilinear.apply((grad_x, grad_kernel, jnp.matmul), x, kernel)


def _transpose(x: Float[Array, "*b n k"]) -> Float[Array, "*b k n"]:
    """Exchanges the last two axes in memory, too."""
    x = _separate(x).swapaxes(-1, -2)
    return _separate(with_layout_constraint(x, Layout(tuple(range(x.ndim)))))


def _grad_x(
    strides: Pair,
    padding: tuple[Pair, Pair],
    shape: tuple[int, ...],
    kernel: Array,
    dy: Array,
) -> Array:
    """Convolves the gradient, with zeros between its rows and columns, with the kernel.

    The kernel is flipped: the adjoint of a correlation is a correlation.
    """
    pads = []
    for size, taps, stride, (before, after) in zip(
        shape[1:3], kernel.shape, strides, padding, strict=False
    ):
        unused = (size + before + after - taps) % stride
        pads.append((taps - 1 - before, taps - 1 - after + unused))
    if strides != (1, 1):
        between = [(0, 0, 0), *((0, 0, stride - 1) for stride in strides), (0, 0, 0)]
        dy = _separate(lax.pad(dy, jnp.zeros((), dy.dtype), between))
    flipped = _separate(kernel[::-1, ::-1].swapaxes(2, 3))
    return _conv(dy, flipped, (1, 1), pads)


def _grad_kernel(
    strides: Pair,
    padding: tuple[Pair, Pair],
    shape: tuple[int, ...],
    x: Array,
    dy: Array,
) -> Array:
    edges = [(0, 0, 0), *((*pads, 0) for pads in padding), (0, 0, 0)]
    x = _separate(lax.pad(x, jnp.zeros((), x.dtype), edges))
    products = functools.partial(_sum_products, strides, shape)
    return shares.sum_over_shares(products, x, dy, axis=0)


def _sum_products(strides: Pair, shape: tuple[int, ...], x: Array, dy: Array) -> Array:
    """Multiplies the gradient by what each of the kernel's taps sees of the images.

    Each product sums over a few images only: one over the whole batch would not fit
    into the caches.
    """
    kh, kw, c, k = shape
    n, oh, ow, _ = dy.shape
    few = max(1, MAX_SUMMED // (oh * ow))
    groups = next(n // m for m in range(min(few, n), 0, -1) if n % m == 0)
    dy = _transpose(dy.reshape(groups, -1, k))
    down, across = (oh - 1) * strides[0] + 1, (ow - 1) * strides[1] + 1
    rows: list[list[Array]] = []
    for i in range(kh):
        row = []
        for j in range(kw):
            seen = x[:, i : i + down : strides[0], j : j + across : strides[1]]
            seen = _separate(seen).reshape(groups, -1, c)
            product = lax.dot_general(dy, seen, (((2,), (1,)), ((0,), (0,))))
            row.append(product.sum(axis=0))
        # One row after the other, so that they can use the same memory. This must come
        # before the transposition, or XLA would exchange the operands of the product.
        x, row = lax.optimization_barrier((x, row))
        rows.append(row)
    return jnp.array(rows).swapaxes(2, 3).reshape(shape)
