"""The convolution of `flax.linen.Conv`, by the fastest method on a CPU."""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cifar_jax.devices import cpu
from cifar_jax.ops import depthwise, direct, grouped, onednn, tiny_images, winograd
from cifar_jax.ops.implementation import Implementation, Pair, run

# Winograd's method moves more data, which costs more than it saves if there are few
# channels or much of the tiles lies outside the image (measured on images of 3x3 to
# 64x64 pixels with 64, 128 and 256 channels).
MIN_WINOGRAD_SHARE, WINOGRAD_CHANNELS = 0.4, 25


def conv_general_dilated(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw c_in k"],
    strides: tuple[int, int],
    padding: Any,
    implementation: Implementation = "auto",
    **options: Any,
) -> Float[Array, "n oh ow k"]:
    """Replaces lax's function in `flax.linen.Conv`.

    The fast implementation computes in float32, by the method that suits the shapes;
    values and gradients differ from lax's by at most 3e-6 of their norm. It does not
    support dilation.

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
    if any(dilation not in (None, (1, 1)) for dilation in dilations):
        return plain(x, kernel)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    (top, bottom), (left, right) = padding
    pads = ((top, bottom), (left, right))
    groups = options.get("feature_group_count", 1)
    if groups > 1 and not groups == x.shape[3] == kernel.shape[3]:
        connected = functools.partial(
            conv_general_dilated,
            strides=strides,
            padding=pads,
            implementation="fast",
            **options | {"feature_group_count": 1},
        )
        fast_groups = functools.partial(grouped.conv, connected, groups)
        return run(implementation, fast_groups, plain, x, kernel)
    if x.dtype == jnp.bfloat16 and groups == 1 and cpu.has_onednn():
        fast_bfloat16 = functools.partial(onednn.conv, strides, pads)
        return run(implementation, fast_bfloat16, plain, x, kernel)
    method = _method(x.shape[1:], kernel.shape, strides, pads, groups)
    if method is None:
        return plain(x, kernel)

    def fast(x: Array, kernel: Array) -> Array:
        # XLA's CPU code is slow in bfloat16, or lacks the products of a gradient.
        y = method(x.astype(jnp.float32), kernel.astype(jnp.float32))
        return y.astype(x.dtype)

    return run(implementation, fast, plain, x, kernel)


def _method(
    image: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: Pair,
    padding: tuple[Pair, Pair],
    groups: int,
) -> Callable[[Array, Array], Array] | None:
    """Returns the fastest method for these shapes, or None for XLA's."""
    h, w, channels = image
    kh, kw, _, features = kernel
    if groups > 1:
        return functools.partial(depthwise.conv, strides, padding)
    if h < kh and w < kw:
        return functools.partial(tiny_images.conv, strides, padding)
    same_3x3 = (kh, kw, *strides, *padding) == (3, 3, 1, 1, (1, 1), (1, 1))
    least_share = MIN_WINOGRAD_SHARE + WINOGRAD_CHANNELS / min(channels, features)
    if same_3x3 and winograd.share_inside(h, w) >= least_share:
        return winograd.conv
    # XLA turns a 1x1 convolution into one product; few channels are quickly transposed.
    if (kh, kw, *strides) == (1, 1, 1, 1) or channels < 16:
        return None
    return functools.partial(direct.conv, strides, padding)
