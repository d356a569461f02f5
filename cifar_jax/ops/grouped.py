"""Convolution in groups: the channels of each group have kernels of their own."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Channels to convolve at a time. Fewer leave too little to do in one convolution; more
# are multiplied by more zeros (measured with 16 to 128 on images of 4x4 to 32x32).
CHANNELS = 32


def conv(
    convolve: Callable[[Array, Array], Array],
    groups: int,
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw c_in k"],
) -> Float[Array, "n oh ow k"]:
    """Convolves a few groups at a time, as if all their channels were connected.

    The kernel is filled up with zeros. XLA's CPU code for convolutions with feature
    groups takes tens to hundreds of times as long. Finite values and gradients differ
    from lax's by a few rounding errors.

    Args:
        convolve: Convolution without groups.
        groups: Number of groups.
        x: Images.
        kernel: Kernels, each with as many channels as a group.
    """
    inputs, outputs = kernel.shape[2], kernel.shape[3] // groups
    few = max(1, CHANNELS // max(inputs, outputs))

    def split(channels: Array, of_a_group: int) -> list[Array]:
        size = few * of_a_group
        return jnp.split(channels, np.arange(size, channels.shape[3], size), axis=3)

    results = [
        convolve(seen, _connect(own, own.shape[3] // outputs))
        for seen, own in zip(split(x, inputs), split(kernel, outputs), strict=True)
    ]
    return jnp.concatenate(results, axis=3)


def _connect(
    kernel: Float[Array, "kh kw c_in k"], groups: int
) -> Float[Array, "kh kw c k"]:
    """Fills a kernel up with zeros for the channels of other groups."""
    kh, kw, inputs, features = kernel.shape
    own = jnp.eye(groups, dtype=kernel.dtype)[:, None, :, None]
    kernel = kernel.reshape(kh, kw, 1, inputs, groups, -1) * own
    return kernel.reshape(kh, kw, groups * inputs, features)
