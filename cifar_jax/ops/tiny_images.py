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
    kernel: Float[Array, "kh kw c k"],
    strides: tuple[int, int],
    padding: Any,
    implementation: Implementation = "auto",
    **options: Any,
) -> Float[Array, "n oh ow k"]:
    """What `flax.linen.Conv` calls: lax's, but for tiny images.

    At the end of a deep network an image may be smaller than the kernel. XLA's CPU
    code then takes some tens of times as long, for images of 2x2, as the one product
    that the fast way makes of it (`experiments.benchmark_tiny_images`).
    With kernel dilation or feature groups there is no fast way.

    Args:
        x: images.
        kernel: of any size.
        strides: of the window.
        padding: as lax takes it.
        implementation: see `cifar_jax.ops`.
        options: the other arguments of lax's.
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
    """As one product of all patches, which are few, with the kernel."""
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
    # In float32 whatever the operands were rounded to: XLA's CPU code lacks some of
    # the products in bfloat16 that the gradient needs.
    flat = patches.reshape(-1, patches.shape[-1]).astype(jnp.float32)
    y = flat @ kernel.reshape(-1, features).astype(jnp.float32)
    return y.reshape(len(x), height, width, features).astype(x.dtype)
