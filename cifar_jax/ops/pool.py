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
    index_dtype = np.min_scalar_type(window[0] * window[1] - 1)
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
    # How far a window extends, in blocks of stride x stride pixels.
    reach = [(size - 1) // stride for size, stride in zip(window, strides, strict=True)]

    def pixel(p: int, q: int) -> Array:
        """Returns the gradient of pixel (p, q) of each block."""
        shape = [output + extra for output, extra in zip(outputs, reach, strict=True)]
        received = jnp.zeros((*shape, *dy.shape[2:]), dy.dtype)
        for i in range(p, window[0], strides[0]):
            for j in range(q, window[1], strides[1]):
                sent = jnp.where(argmax == i * window[1] + j, dy, 0)
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
    """Returns the output sizes and the padding along each axis."""
    outputs = [-(-size // step) for size, step in zip(image, strides, strict=True)]
    return outputs, list(lax.padtype_to_pads(image, window, strides, "SAME"))


_shifted.defvjp(_forward, _backward)
