"""Local response normalization, across channels or within each channel."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cifar_jax.ops import multilinear
from cifar_jax.ops.implementation import Implementation, run


def local_response_norm(
    x: Float[Array, "..."],
    depth_radius: int = 4,
    bias: float = 1.0,
    alpha: float = 0.001 / 9.0,
    beta: float = 0.75,
    *,
    axis: int | tuple[int, ...] = -1,
    implementation: Implementation = "auto",
) -> Float[Array, "..."]:
    """Divides x by (bias + alpha * sum of squares over nearby channels)^beta.

    The channels lie along `axis`; the sum runs over those at most `depth_radius`
    away, and thus over fewer at the edges. Given two axes, such as height and width, it
    runs over a square of that radius. As in `tf.nn.lrn`, alpha multiplies the sum, not
    the mean, which is why the tutorial divides it by the 9 channels. (Krizhevsky,
    Sutskever and Hinton, ImageNet Classification with Deep Convolutional Neural
    Networks, 2012, 3.3.)

    Both implementations compute in float32; their values and gradients differ by less
    than 1e-6 of the norm.
    """
    axes = (axis,) if isinstance(axis, int) else axis
    constants = _Constants(
        tuple(axis % x.ndim for axis in axes), depth_radius, bias, alpha, beta
    )
    fast = functools.partial(_fast, constants)
    plain = functools.partial(_plain, constants)
    # In bfloat16, a small sum would be lost when added to the bias.
    return run(implementation, fast, plain, x.astype(jnp.float32)).astype(x.dtype)


class _Constants(NamedTuple):
    axes: tuple[int, ...]
    depth_radius: int
    bias: float
    alpha: float
    beta: float


def _plain(constants: _Constants, x: Array) -> Array:
    axes, depth_radius, bias, alpha, beta = constants
    window = [1] * x.ndim
    for axis in axes:
        window[axis] = 2 * depth_radius + 1
    # An odd window with SAME padding extends equally far to both sides.
    nearby = lax.reduce_window(x * x, 0.0, lax.add, window, [1] * x.ndim, "SAME")
    return x * (bias + alpha * nearby) ** -beta


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _fast(constants: _Constants, x: Array) -> Array:
    """Normalizes by sums of shifted slices, which XLA fuses into a single loop."""
    return x * _power(_scale(constants, x), constants.beta)


@_fast.defjvp
def _tangent(
    constants: _Constants, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    scale = _scale(constants, x)
    power = _power(scale, constants.beta)
    # JAX derives the gradient from this, which has the same factors in reverse order.
    nearby = _sum_nearby(-2 * constants.alpha * constants.beta * x * dx, constants)
    return x * power, dx * power + nearby / scale * power * x


def _scale(constants: _Constants, x: Array) -> Array:
    return constants.bias + constants.alpha * _sum_nearby(x * x, constants)


def _sum_nearby(x: Array, constants: _Constants) -> Array:
    """Sums x over all channels nearby; the map is its own transpose."""

    def sums(x: Array) -> Array:
        for axis in constants.axes:
            x = _sum_along(axis, constants.depth_radius, x)
        return x

    return multilinear.apply((sums, sums), x)


def _sum_along(axis: int, radius: int, x: Array) -> Array:
    padding = [(0, 0)] * x.ndim
    padding[axis] = (radius, radius)
    padded = jnp.pad(x, padding)
    size = x.shape[axis]
    shifted = [
        lax.slice_in_dim(padded, shift, shift + size, axis=axis)
        for shift in range(2 * radius + 1)
    ]
    return functools.reduce(jnp.add, shifted)


def _power(x: Array, beta: float) -> Array:
    """Raises x to the power -beta."""
    if beta == 0.75:  # The usual beta; square roots are cheaper.
        return lax.rsqrt(x) * jnp.sqrt(lax.rsqrt(x))
    return x**-beta
