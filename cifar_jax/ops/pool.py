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
    """The maxima of windows, SAME padding as TensorFlow's.

    The gradient goes to the first of equal maxima, row by row. Both implementations
    give the same values; their gradients differ by rounding where windows overlap.
    """
    fast = functools.partial(_fast, window, strides)
    plain = functools.partial(_plain, window, strides)
    return run(implementation, fast, plain, x)


def _plain(window: tuple[int, int], strides: tuple[int, int], x: Array) -> Array:
    dims, steps = (*window, 1, 1), (*strides, 1, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, dims, steps, "SAME")


def _fast(window: tuple[int, int], strides: tuple[int, int], x: Array) -> Array:
    # XLA's CPU code is slow at bfloat16 outside of products.
    return _shifted(window, strides, x.astype(jnp.float32)).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _shifted(window: tuple[int, int], strides: tuple[int, int], x: Array) -> Array:
    """As maxima of strided slices, one for each position in the window."""
    return _forward(window, strides, x)[0]


_Residuals = tuple[UInt[Array, "oh ow c n"], tuple[int, int]]


def _forward(
    window: tuple[int, int], strides: tuple[int, int], x: Array
) -> tuple[Array, _Residuals]:
    image = (x.shape[0], x.shape[1])
    outputs, padding = _same(image, window, strides)
    x = jnp.pad(x, (*padding, (0, 0), (0, 0)), constant_values=-np.inf)
    best = jnp.full((*outputs, *x.shape[2:]), -np.inf, x.dtype)
    number_type = np.min_scalar_type(window[0] * window[1] - 1)
    which = jnp.zeros(best.shape, number_type)
    for number, start in enumerate(np.ndindex(*window)):
        at_position = x[
            tuple(
                slice(first, first + (output - 1) * stride + 1, stride)
                for first, output, stride in zip(start, outputs, strides, strict=True)
            )
        ]
        which = jnp.where(at_position > best, number_type.type(number), which)
        best = jnp.maximum(best, at_position)  # keeps NaN
    return best, (which, image)


def _backward(
    window: tuple[int, int],
    strides: tuple[int, int],
    residuals: _Residuals,
    dy: Array,
) -> tuple[Array]:
    which, (h, w) = residuals
    outputs, (rows, columns) = _same((h, w), window, strides)
    # In units of blocks of stride x stride pixels: how far a window reaches.
    reach = [(size - 1) // stride for size, stride in zip(window, strides, strict=True)]

    def pixel(p: int, q: int) -> Array:
        """What pixel (p, q) of each block receives."""
        shape = [output + extra for output, extra in zip(outputs, reach, strict=True)]
        received = jnp.zeros((*shape, *dy.shape[2:]), dy.dtype)
        for i in range(p, window[0], strides[0]):
            for j in range(q, window[1], strides[1]):
                sent = jnp.where(which == i * window[1] + j, dy, 0)
                down, right = i // strides[0], j // strides[1]
                shift = ((down, reach[0] - down), (right, reach[1] - right))
                received += jnp.pad(sent, (*shift, (0, 0), (0, 0)))
        return received

    blocks = jnp.stack(
        [
            jnp.stack([pixel(p, q) for q in range(strides[1])], axis=2)
            for p in range(strides[0])
        ],
        axis=1,
    )
    bh, sh, bw, sw, c, n = blocks.shape
    padded = blocks.reshape(bh * sh, bw * sw, c, n)
    (top, _), (left, _) = rows, columns
    return (padded[top : top + h, left : left + w],)


def _same(
    image: tuple[int, int], window: tuple[int, int], strides: tuple[int, int]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Size of the output and padding, by axis."""
    outputs = [-(-size // step) for size, step in zip(image, strides, strict=True)]
    return outputs, list(lax.padtype_to_pads(image, window, strides, "SAME"))


_shifted.defvjp(_forward, _backward)
