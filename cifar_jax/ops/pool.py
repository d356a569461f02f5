"""Max pooling of images in the layout (height, width, channel, batch)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt

from cifar_jax.ops.implementation import Implementation, run


def max_pool(
    x: Float[Array, "h w c n"],
    window: tuple[int, int],
    strides: tuple[int, int],
    implementation: Implementation = "auto",
) -> Float[Array, "oh ow c n"]:
    """Returns the maxima of windows, with SAME padding as in TensorFlow.

    The gradient goes to the first of equal maxima in row-major order. Both
    implementations give the same values; their gradients differ only by rounding, where
    windows overlap.
    """
    fast = functools.partial(_fast, window, strides)
    plain = functools.partial(_plain, window, strides)
    return run(implementation, fast, plain, x)


def _plain(window: tuple[int, int], strides: tuple[int, int], x: Array) -> Array:
    dims, steps = (*window, 1, 1), (*strides, 1, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, dims, steps, "SAME")


def _fast(window: tuple[int, int], strides: tuple[int, int], x: Array) -> Array:
    # XLA's CPU code is slow in bfloat16, except for matrix products.
    return _shifted(window, strides, x.astype(jnp.float32)).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _shifted(window: tuple[int, int], strides: tuple[int, int], x: Array) -> Array:
    """Pools by maxima of strided slices, one for each position in the window."""
    return _forward(window, strides, x)[0]


_Residuals = tuple[UInt[Array, "oh ow c n"], tuple[int, int]]


def _forward(
    window: tuple[int, int], strides: tuple[int, int], x: Array
) -> tuple[Array, _Residuals]:
    image = (x.shape[0], x.shape[1])
    outputs, padding = _same(image, window, strides)
    x = jnp.pad(x, (*padding, (0, 0), (0, 0)), constant_values=-np.inf)
    best = jnp.full((*outputs, *x.shape[2:]), -np.inf, x.dtype)
    # One value more than there are positions, for pixels outside the window.
    index_dtype = np.min_scalar_type(window[0] * window[1])
    argmax = jnp.zeros(best.shape, index_dtype)
    for index, start in enumerate(np.ndindex(*window)):
        at_position = x[
            tuple(
                slice(first, first + (output - 1) * stride + 1, stride)
                for first, output, stride in zip(start, outputs, strides, strict=True)
            )
        ]
        argmax = jnp.where(at_position > best, index_dtype.type(index), argmax)
        best = jnp.maximum(best, at_position)  # propagates NaN
    return best, (argmax, image)


def _backward(
    window: tuple[int, int],
    strides: tuple[int, int],
    residuals: _Residuals,
    dy: Array,
) -> tuple[Array]:
    argmax, (h, w) = residuals
    outputs, (rows, columns) = _same((h, w), window, strides)
    (top, _), (left, _) = rows, columns
    # How far a window extends, in blocks of stride x stride pixels.
    reach = [(size - 1) // stride for size, stride in zip(window, strides, strict=True)]
    blocks = [-(-(top + h) // strides[0]), -(-(left + w) // strides[1])]
    margins = [
        (before, block - output, 0)
        for before, block, output in zip(reach, blocks, outputs, strict=True)
    ]
    margins += [(0, 0, 0), (0, 0, 0)]
    # The barrier keeps XLA from computing both anew for every term of the sum. It
    # holds because these arrays are padded; unpadded ones would be fused all the same.
    argmax, dy = lax.optimization_barrier(
        tuple(lax.pad(a, jnp.zeros((), a.dtype), margins) for a in (argmax, dy))
    )

    # All pixels of a block in one loop, since concatenation is slow if fused.
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
    padded = dx.reshape(bh * sh, bw * sw, c, n)
    return (padded[top : top + h, left : left + w],)


def _same(
    image: tuple[int, int], window: tuple[int, int], strides: tuple[int, int]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Returns the output sizes and the padding along each axis."""
    outputs = [-(-size // step) for size, step in zip(image, strides, strict=True)]
    return outputs, list(lax.padtype_to_pads(image, window, strides, "SAME"))


_shifted.defvjp(_forward, _backward)
