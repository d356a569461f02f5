"""Convolution of images that are smaller than the kernel."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cifar_jax.ops.implementation import Pair


def conv(
    strides: Pair,
    padding: tuple[Pair, Pair],
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw c k"],
) -> Float[Array, "n oh ow k"]:
    """Multiplies all patches, which are few, by the kernel in one product.

    At the end of a deep network, an image may be smaller than the kernel. For 2x2
    images, XLA's CPU code takes tens of times as long (see
    `experiments.speed.convolutions`).
    """
    kh, kw, _, features = kernel.shape
    x_padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = (
        (size - window) // stride + 1
        for size, window, stride in zip(
            x_padded.shape[1:3], (kh, kw), strides, strict=True
        )
    )
    patches = jnp.concatenate(
        [
            x_padded[
                :,
                i : i + (height - 1) * strides[0] + 1 : strides[0],
                j : j + (width - 1) * strides[1] + 1 : strides[1],
            ]
            for i, j in np.ndindex(kh, kw)
        ],
        axis=-1,
    )
    y = patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, features)
    return y.reshape(len(x), height, width, features)
