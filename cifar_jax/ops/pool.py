"""Max pooling of images in the layout (height, width, channel, batch)."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt

from cifar_jax.ops import multilinear
from cifar_jax.ops.implementation import Implementation, Pair, run

# A name as in lax, or pairs of before and after for the two axes.
Padding = str | Sequence[Pair]


def max_pool(
    x: Float[Array, "h w c n"],
    window: tuple[int, int],
    strides: tuple[int, int],
    implementation: Implementation = "auto",
    padding: Padding = "SAME",
) -> Float[Array, "oh ow c n"]:
    """Returns the maxima of windows; SAME padding is TensorFlow's.

    The gradient goes to the first of equal maxima in row-major order. Both
    implementations give the same values; their gradients differ only by rounding, where
    windows overlap.
    """
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[:2], window, strides, padding)
    (top, bottom), (left, right) = padding
    shape = _Windows(window, strides, ((top, bottom), (left, right)))
    fast, plain = functools.partial(_fast, shape), functools.partial(_plain, shape)
    # XLA's gradient is a scatter on NVIDIA GPUs, which is slower there, too.
    cuda = functools.partial(_max_of_slices, shape)
    return run(implementation, fast, plain, x, cuda=cuda)


def max_pool_channels_last(
    x: Float[Array, "n h w c"],
    window: tuple[int, int],
    strides: tuple[int, int],
    implementation: Implementation = "auto",
    padding: Padding = "SAME",
) -> Float[Array, "n oh ow c"]:
    """Does what `max_pool` does, for images in Flax's layout."""

    def pool(image: Float[Array, "h w c"]) -> Float[Array, "oh ow c"]:
        batch = image[..., None]
        return max_pool(batch, window, strides, implementation, padding)[..., 0]

    return jax.vmap(pool)(x)


class _Windows(NamedTuple):
    size: Pair
    strides: Pair
    padding: tuple[Pair, Pair]

    def outputs(self, image: tuple[int, ...]) -> list[int]:
        """Returns the number of windows along each axis."""
        return [
            (size + sum(pads) - window) // stride + 1
            for size, pads, window, stride in zip(
                image, self.padding, self.size, self.strides, strict=True
            )
        ]


def _plain(windows: _Windows, x: Array) -> Array:
    dims, steps = (*windows.size, 1, 1), (*windows.strides, 1, 1)
    padding = (*windows.padding, (0, 0), (0, 0))
    return lax.reduce_window(x, -jnp.inf, lax.max, dims, steps, padding)


def _fast(windows: _Windows, x: Array) -> Array:
    # XLA's CPU code is slow in bfloat16, except for matrix products.
    return _max_of_slices(windows, x.astype(jnp.float32)).astype(x.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _max_of_slices(windows: _Windows, x: Array) -> Array:
    """Pools by maxima of strided slices, one for each position in the window."""
    return _maxima(windows, x)[0]


@_max_of_slices.defjvp
def _tangent(
    windows: _Windows, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    _, argmax = _maxima(windows, lax.stop_gradient(x))
    scatter = functools.partial(_scatter, windows, x.shape[:2])
    maps = (None, scatter, functools.partial(_gather, windows))
    return _max_of_slices(windows, x), multilinear.apply(maps, argmax, dx)


_Indices = UInt[Array, "oh ow c n"]


def _maxima(windows: _Windows, x: Array) -> tuple[Array, _Indices]:
    """Returns the maxima and their positions in the windows."""
    best = jnp.full((), -np.inf, x.dtype)
    # One value more than there are positions, for pixels outside the window.
    index_dtype = np.min_scalar_type(windows.size[0] * windows.size[1])
    argmax = jnp.zeros((), index_dtype)
    for index, at_position in enumerate(_positions(windows, x, -np.inf)):
        argmax = jnp.where(at_position > best, index_dtype.type(index), argmax)
        best = jnp.maximum(best, at_position)  # propagates NaN
    return best, argmax


def _positions(windows: _Windows, x: Array, outside: float) -> list[Array]:
    """Returns, for each position in a window, the values there in all windows."""
    outputs = windows.outputs(x.shape[:2])
    x = jnp.pad(x, (*windows.padding, (0, 0), (0, 0)), constant_values=outside)
    return [
        x[
            tuple(
                slice(first, first + (output - 1) * stride + 1, stride)
                for first, output, stride in zip(
                    start, outputs, windows.strides, strict=True
                )
            )
        ]
        for start in np.ndindex(*windows.size)
    ]


def _gather(windows: _Windows, argmax: _Indices, x: Array) -> Array:
    """Returns the value of x at a position in each window."""
    y = jnp.zeros((), x.dtype)
    for index, at_position in enumerate(_positions(windows, x, 0)):
        y += jnp.where(argmax == index, at_position, 0)
    return y


def _scatter(
    windows: _Windows, image: tuple[int, ...], argmax: _Indices, dy: Array
) -> Array:
    """Computes the transpose: adds each value to the pixel that it was taken from."""
    h, w = image
    window, strides, ((top, _), (left, _)) = windows
    # How far a window extends, in blocks of stride x stride pixels.
    reach = [(size - 1) // stride for size, stride in zip(window, strides, strict=True)]
    blocks = [-(-(top + h) // strides[0]), -(-(left + w) // strides[1])]
    margins = [
        (before, block - output, 0)
        for before, block, output in zip(reach, blocks, dy.shape, strict=False)
    ]
    margins += [(0, 0, 0), (0, 0, 0)]
    padded = tuple(lax.pad(a, jnp.zeros((), a.dtype), margins) for a in (argmax, dy))
    if reach != [0, 0]:
        # The barrier keeps XLA from recomputing both for every term of the sum. It
        # works because these are padded; otherwise they would be fused anyway.
        padded = lax.optimization_barrier(padded)
    argmax, dy = padded

    # All pixels of a block in one loop, since concatenation is slow when fused.
    dx = jnp.zeros((), dy.dtype)
    for down, right in np.ndindex(reach[0] + 1, reach[1] + 1):
        # The position of each pixel of a block in the window that starts in the block
        # `down` above and `right` to the left.
        i = down * strides[0] + np.arange(strides[0])[:, None]
        j = right * strides[1] + np.arange(strides[1])
        is_inside = (i < window[0]) & (j < window[1])
        position = np.where(is_inside, i * window[1] + j, window[0] * window[1])
        position = position.astype(argmax.dtype)[:, None, :, None, None]
        above, before = reach[0] - down, reach[1] - right
        near = np.s_[above : above + blocks[0], None, before : before + blocks[1], None]
        dx += jnp.where(argmax[near] == position, dy[near], 0)
    bh, sh, bw, sw, c, n = dx.shape
    whole = dx.reshape(bh * sh, bw * sw, c, n)
    return whole[top : top + h, left : left + w]
