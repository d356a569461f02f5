"""Distortions of colors, as in torchvision.

All work on bytes: other images are rounded and clipped first, and results are truncated
to integers, as torchvision does for tensors of bytes.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num, Scalar, UInt8

from cifar_jax.checks import check_range
from cifar_jax.data.distortions.base import Example
from cifar_jax.data.distortions.picking import pick


def as_bytes(image: Num[Array, "h w c"]) -> UInt8[Array, "h w c"]:
    """Returns the image as bytes, rounded and clipped if it is not."""
    if image.dtype == jnp.uint8:
        return image
    return jnp.clip(jnp.round(image), 0, 255).astype(jnp.uint8)


def luma(image: UInt8[Array, "h w c"]) -> Int[Array, "h w 1"]:
    """Returns the brightness of each pixel, rounded down.

    It is 0.2989 R + 0.587 G + 0.114 B, torchvision's weights (of ITU-R BT.601), or the
    mean if there are not 3 channels.
    """
    channels = image.shape[-1]
    weights = (2989, 5870, 1140) if channels == 3 else (1,) * channels
    # Floats, which are faster; they are exact up to the division, which is truncated.
    values = image.astype(jnp.float32)
    total = sum(weight * values[..., i] for i, weight in enumerate(weights))
    divisor = 10_000 if channels == 3 else channels
    return jnp.floor(total / divisor).astype(jnp.int32)[..., None]


def mean_luma(image: UInt8[Array, "h w c"]) -> Float[Array, ""]:
    """Returns the mean brightness of the pixels."""
    return luma(image).sum() / (image.shape[0] * image.shape[1])


def blend(
    image: UInt8[Array, "h w c"],
    other: Num[Array, "..."],
    factor: Float[Scalar, ""],
) -> UInt8[Array, "h w c"]:
    """Returns other + factor * (image - other), clipped and truncated to bytes.

    A factor of 0 gives the other image, and a factor above 1 exaggerates the
    difference, as in Pillow's ImageEnhance.
    """
    blended = other + factor * (image.astype(jnp.float32) - other)
    return jnp.clip(blended, 0, 255).astype(jnp.uint8)


def shift_hue(
    image: UInt8[Array, "h w c"], shift: Float[Scalar, ""]
) -> UInt8[Array, "h w c"]:
    """Returns the image with all hues changed by a share of the color circle.

    Images that do not have 3 channels have no hue and stay the same.
    """
    if image.shape[-1] != 3:
        return image
    red, green, blue = jnp.moveaxis(image.astype(jnp.float32) / 255, -1, 0)
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    divisor = jnp.where(chroma == 0, 1, chroma)
    sixth = jnp.where(
        value == red,
        (green - blue) / divisor,
        jnp.where(
            value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor
        ),
    )
    # How far red, green and blue are from the hue, in sixths of the circle.
    distance = (jnp.array([5, 3, 1]) + (sixth + 6 * shift)[..., None]) % 6
    part = jnp.clip(jnp.minimum(distance, 4 - distance), 0, 1)
    turned = value[..., None] - chroma[..., None] * part
    # As torchvision converts to bytes.
    return (turned * 255.999).astype(jnp.uint8)


@dataclasses.dataclass(frozen=True)
class Grayscale:
    """The brightness in place of all channels, for a tenth of the images by default."""

    prob: ClassVar[float] = 0.1

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> UInt8[Array, "h w c"]:
        gray = luma(as_bytes(image)).astype(jnp.uint8)
        return jnp.broadcast_to(gray, image.shape)


@dataclasses.dataclass(frozen=True)
class ColorJitter:
    """Random brightness, contrast, saturation and hue, in random order.

    torchvision's ColorJitter, with SimCLR's strength for CIFAR-10 (Chen et al., A
    Simple Framework for Contrastive Learning of Visual Representations, 2020, appendix
    B.9).

    Attributes:
        brightness: the factor is uniform from 1 - brightness, but at least 0, to 1 +
            brightness.
        contrast: the same for the distance from the mean brightness of the image.
        saturation: the same for the distance from the brightness of the pixel.
        hue: the largest shift of the hue, as a share of the color circle.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            check_range(name, getattr(self, name), at_least=0)
        check_range("hue", self.hue, at_least=0, at_most=0.5)

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> UInt8[Array, "h w c"]:
        order_key, factor_key, hue_key = jax.random.split(key, 3)
        strengths = jnp.array([self.brightness, self.contrast, self.saturation])
        factors = jax.random.uniform(
            factor_key, (3,), minval=jnp.maximum(0, 1 - strengths), maxval=1 + strengths
        )
        shift = jax.random.uniform(hue_key, minval=-self.hue, maxval=self.hue)
        image = as_bytes(image)
        for kind in jax.random.permutation(order_key, 4):
            alternatives = (
                blend(image, jnp.float32(0), factors[0]),
                blend(image, mean_luma(image), factors[1]),
                blend(image, luma(image), factors[2]),
                shift_hue(image, shift),
            )
            image = pick(alternatives, kind)
        return image
