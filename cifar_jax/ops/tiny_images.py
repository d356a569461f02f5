"""Convolution of images that are smaller than its kernel."""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from cifar_jax.ops.implementation import Implementation, run


def conv_general_dilated(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw c_in k"],
    strides: tuple[int, int],
    padding: Any,
    implementation: Implementation = "auto",
    **options: Any,
) -> Float[Array, "n oh ow k"]:
    """Replaces lax's function in `flax.linen.Conv`, with a fast path for tiny images.

    At the end of a deep network, an image may be smaller than the kernel. For 2x2
    images, XLA's CPU code then takes tens of times as long as the single product that
    the fast implementation computes (`experiments.benchmark_tiny_images`).
    There is no fast implementation for dilation or feature groups.

    Args:
        x: Images.
        kernel: Kernel of any size.
        strides: Strides of the window.
        padding: Padding in any form that lax accepts.
        implementation: Implementation to use; see `cifar_jax.ops`.
        options: Other arguments of `lax.conv_general_dilated`.
    """
    plain: Callable[..., Array] = functools.partial(
        lax.conv_general_dilated, window_strides=strides, padding=padding, **options
    )
    dilations = (options.get("lhs_dilation"), options.get("rhs_dilation"))
    is_tiny = x.shape[1] < kernel.shape[0] and x.shape[2] < kernel.shape[1]
    is_ordinary = options.get("feature_group_count", 1) == 1 and all(
        dilation in (None, (1, 1)) for dilation in dilations
    )
    if not (is_tiny and is_ordinary):
        return plain(x, kernel)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    return run(
        implementation, functools.partial(_fast, strides, padding), plain, x, kernel
    )


def _fast(strides: tuple[int, int], padding: Any, x: Array, kernel: Array) -> Array:
    """Multiplies all patches, which are few, by the kernel in one product."""
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
    # Always computed in float32, because XLA's CPU code lacks some of the bfloat16
    # products that the gradient needs.
    flat = patches.reshape(-1, patches.shape[-1]).astype(jnp.float32)
    y = flat @ kernel.reshape(-1, features).astype(jnp.float32)
    return y.reshape(len(x), height, width, features).astype(x.dtype)
