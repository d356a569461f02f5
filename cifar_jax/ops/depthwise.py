"""Depthwise convolution: each channel has its own kernel."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from cifar_jax.ops import multilinear
from cifar_jax.ops.implementation import Pair

Padding = tuple[Pair, Pair]

# How many columns, or else pixels of a whole image, the kernel's gradient adds up in
# one loop. More would take longer to compile.
_COLUMNS = 8
_PIXELS = 16


def conv(
    strides: Pair,
    padding: Padding,
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw 1 c"],
) -> Float[Array, "n oh ow c"]:
    """Convolves each channel with its own kernel, of any size.

    This is a sum of products with strided slices, one per kernel tap, since XLA's CPU
    code for convolutions with feature groups takes many times as long. Values and
    gradients differ from lax's by a few rounding errors.
    """
    image, taps = (x.shape[1], x.shape[2]), (kernel.shape[0], kernel.shape[1])
    grad_x = functools.partial(_grad_x, strides, padding, image)
    grad_kernel = functools.partial(_grad_kernel, strides, padding, taps)
    convolve = functools.partial(_convolve, strides, padding)
    return multilinear.apply((grad_x, grad_kernel, convolve), x, kernel)


def _convolve(
    strides: Pair,
    padding: Padding,
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw 1 c"],
) -> Float[Array, "n oh ow c"]:
    x = _pad_behind_barrier(x, *padding)
    outputs = [
        (size - taps) // stride + 1
        for size, taps, stride in zip(x.shape[1:3], kernel.shape, strides, strict=False)
    ]
    y = jnp.zeros((), x.dtype)
    for i, j in np.ndindex(*kernel.shape[:2]):
        rows = slice(i, i + (outputs[0] - 1) * strides[0] + 1, strides[0])
        columns = slice(j, j + (outputs[1] - 1) * strides[1] + 1, strides[1])
        y += x[:, rows, columns] * kernel[i, j, 0]
    return y


def _grad_x(
    strides: Pair,
    padding: Padding,
    image: Pair,
    kernel: Float[Array, "kh kw 1 c"],
    dy: Array,
) -> Float[Array, "n h w c"]:
    """Adds up what each pixel in a block of stride x stride pixels receives."""
    sh, sw = strides
    (top, _), (left, _) = padding
    bh, bw = -(-(top + image[0]) // sh), -(-(left + image[1]) // sw)
    # How far the kernel extends, in blocks.
    down, right = (kernel.shape[0] - 1) // sh, (kernel.shape[1] - 1) // sw
    below, after = bh - dy.shape[1], bw - dy.shape[2]
    dy = _pad_behind_barrier(dy, (down, below), (right, after))
    # Each row of this array is a row of pixels in a block, and likewise each column.
    rest = (
        (0, (down + 1) * sh - kernel.shape[0]),
        (0, (right + 1) * sw - kernel.shape[1]),
        (0, 0),
    )
    kernel = jnp.pad(kernel[:, :, 0], rest)
    dx = jnp.zeros((), dy.dtype)
    for i, j in np.ndindex(down + 1, right + 1):
        taps = kernel[i * sh : (i + 1) * sh, None, j * sw : (j + 1) * sw]
        above, before = down - i, right - j
        near = np.s_[:, above : above + bh, None, before : before + bw, None]
        dx += dy[near] * taps
    dx = dx.reshape(len(dx), bh * sh, bw * sw, -1)
    rows, columns = (-top, top + image[0] - bh * sh), (-left, left + image[1] - bw * sw)
    return _pad(dx, rows, columns)


def _grad_kernel(
    strides: Pair, padding: Padding, taps: Pair, x: Float[Array, "n h w c"], dy: Array
) -> Float[Array, "kh kw 1 c"]:
    """Sums the products of dy with the padded images, shifted by each tap."""
    image = x.shape[1:3]
    # XLA computes this only once: `_convolve` does the same.
    x = _pad_behind_barrier(x, *padding)
    # The products of some columns, or of all pixels of a small image, are added up in
    # one loop over contiguous memory, which leaves less to XLA's slower reductions.
    oh, ow = dy.shape[1:3]
    period = (oh if oh * ow <= _PIXELS else 1, min(ow, _COLUMNS))
    extra = -ow % period[1]  # columns of zeros, so that the period divides them
    dy = _pad_behind_barrier(dy, (0, 0), (0, extra))
    x = _pad(x, (0, 0), (0, extra * strides[1]))

    def pairs(axis: int, tap: int) -> list[tuple[slice, slice]]:
        """Returns slices of x and dy to multiply, except where x is all padding."""
        first, _ = padding[axis]
        result = []
        for start in range(period[axis]):
            outputs = range(start, dy.shape[axis + 1], period[axis])
            pixels = [tap + output * strides[axis] for output in outputs]
            if any(first <= pixel < first + image[axis] for pixel in pixels):
                of_x = slice(pixels[0], pixels[-1] + 1, strides[axis] * period[axis])
                result.append((of_x, slice(start, None, period[axis])))
        return result

    def gradient(i: int, j: int) -> Float[Array, " c"]:
        total = jnp.zeros((1, 1, 1, dy.shape[3]), dy.dtype)
        for x_rows, rows in pairs(0, i):
            for x_columns, columns in pairs(1, j):
                total += x[:, x_rows, x_columns] * dy[:, rows, columns]
        return total.sum((0, 1, 2))

    gradients = [gradient(i, j) for i, j in np.ndindex(*taps)]
    return jnp.stack(gradients).reshape(*taps, 1, -1)


def _pad_behind_barrier(x: Float[Array, "n h w c"], rows: Pair, columns: Pair) -> Array:
    """Pads images behind a barrier: XLA would recompute x for every slice of it."""
    return lax.optimization_barrier(_pad(x, rows, columns))


def _pad(x: Float[Array, "n h w c"], rows: Pair, columns: Pair) -> Array:
    """Pads images with zeros; negative padding crops them."""
    edges = ((0, 0, 0), (*rows, 0), (*columns, 0), (0, 0, 0))
    return lax.pad(x, jnp.zeros((), x.dtype), edges)
