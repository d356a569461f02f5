"""Random rectangles: what is erased, and what is enlarged."""

import dataclasses
import math
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Num, UInt8

from cifar_jax.checks import check_range
from cifar_jax.data.distortions.base import Example
from cifar_jax.data.distortions.colors import as_bytes

# How many times torchvision draws a rectangle until one fits into the image.
_TRIES = 10


def _draw_sizes(
    key: Key[Array, ""],
    area: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[Int[Array, " tries"], Int[Array, " tries"]]:
    """Returns the two sides of several rectangles, in pixels.

    Args:
        key: random key.
        area: of the image.
        scale: the range of the rectangle's share of it.
        ratio: the range of the first side divided by the second, uniform in its
            logarithm.
    """
    area_key, ratio_key = jax.random.split(key)
    areas = area * jax.random.uniform(
        area_key, (_TRIES,), minval=scale[0], maxval=scale[1]
    )
    ratios = jnp.exp(
        jax.random.uniform(
            ratio_key, (_TRIES,), minval=math.log(ratio[0]), maxval=math.log(ratio[1])
        )
    )
    first, second = jnp.sqrt(areas * ratios), jnp.sqrt(areas / ratios)
    return jnp.round(first).astype(jnp.int32), jnp.round(second).astype(jnp.int32)


def _check(scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    check_range("scale", scale, above=0, at_most=1)
    check_range("ratio", ratio, above=0)
    for name, (low, high) in {"scale": scale, "ratio": ratio}.items():
        if low > high:
            raise ValueError(f"{name}={(low, high)} must be the lower bound first")


@dataclasses.dataclass(frozen=True)
class RandomErasing:
    """Erases a random rectangle, in half of the images unless `prob` is set.

    Zhong et al., Random Erasing Data Augmentation, 2017; the ranges are those of
    torchvision's RandomErasing. As there, an image into which none of 10 rectangles
    fits is left alone.

    Attributes:
        scale: the range of the rectangle's share of the image.
        ratio: the range of its height divided by its width.
        value: what it is filled with: the image's mean, or random bytes.
    """

    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    value: Literal["mean", "random"] = "mean"
    prob: ClassVar[float] = 0.5

    def __post_init__(self) -> None:
        _check(self.scale, self.ratio)

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> Float[Array, "h w c"]:
        height, width, _ = image.shape
        size_key, place_key, value_key = jax.random.split(key, 3)
        heights, widths = _draw_sizes(size_key, height * width, self.scale, self.ratio)
        fits = (heights < height) & (widths < width)
        chosen = jnp.argmax(fits)
        erased = jnp.array([heights[chosen], widths[chosen]])
        free = jnp.array([height, width]) - erased + 1
        start = jax.random.randint(place_key, (2,), 0, jnp.maximum(free, 1))
        rows = _between(jnp.arange(height), start[0], erased[0])
        columns = _between(jnp.arange(width), start[1], erased[1])
        inside = fits.any() & rows[:, None] & columns
        image = image.astype(jnp.float32)
        if self.value == "mean":
            filling = image.mean(axis=(0, 1))
        else:
            filling = jax.random.randint(value_key, image.shape, 0, 256)
        return jnp.where(inside[..., None], filling, image)


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop:
    """A random rectangle, resized to the network's size.

    torchvision's RandomResizedCrop, with antialiased bilinear interpolation. As there,
    if none of 10 rectangles fits into the image, the largest central one is taken whose
    ratio is in the range.

    Attributes:
        scale: the range of the rectangle's share of the image.
        ratio: the range of its width divided by its height.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        _check(self.scale, self.ratio)

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> UInt8[Array, "{example.size} {example.size} c"]:
        height, width, _ = image.shape
        size_key, place_key = jax.random.split(key)
        widths, heights = _draw_sizes(size_key, height * width, self.scale, self.ratio)
        fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
        chosen = jnp.argmax(fits)
        size = jnp.array([heights[chosen], widths[chosen]])
        free = jnp.array([height, width]) - size + 1
        start = jax.random.randint(place_key, (2,), 0, jnp.maximum(free, 1))
        central = jnp.array(self._largest(height, width))
        size = jnp.where(fits.any(), size, central)
        start = jnp.where(
            fits.any(), start, (jnp.array([height, width]) - central) // 2
        )
        return crop_and_resize(as_bytes(image), start, size, example.size)

    def _largest(self, height: int, width: int) -> tuple[int, int]:
        """Returns the size of the largest rectangle whose ratio is in the range."""
        low, high = self.ratio
        if width / height < low:
            return round(width / low), width
        if width / height > high:
            return height, round(height * high)
        return height, width


def crop_and_resize(
    image: UInt8[Array, "h w c"],
    start: Int[Array, "2"],
    size: Int[Array, "2"],
    new_size: int,
) -> UInt8[Array, "{new_size} {new_size} c"]:
    """Resizes a rectangle to a square, as an antialiased mean of neighboring pixels.

    Args:
        image: bytes.
        start: the rectangle's first row and column.
        size: its height and width.
        new_size: height and width of the result.
    """
    rows = _resizing(image.shape[0], start[0], size[0], new_size)
    columns = _resizing(image.shape[1], start[1], size[1], new_size)
    # GPUs would otherwise multiply with 10 bits.
    resized = jnp.einsum("ih,hwc,jw->ijc", rows, image, columns, precision="highest")
    return jnp.clip(jnp.round(resized), 0, 255).astype(jnp.uint8)


def _resizing(
    length: int, start: Int[Array, ""], size: Int[Array, ""], new_size: int
) -> Float[Array, "{new_size} {length}"]:
    """Returns the weight of each old row in each new one.

    They fall linearly with the distance from its center, to 0 at one old row, or at one
    new row where that is wider.
    """
    scale = size / new_size
    centers = start + (jnp.arange(new_size)[:, None] + 0.5) * scale
    places = jnp.arange(length) + 0.5
    weights = jnp.maximum(0, 1 - jnp.abs(places - centers) / jnp.maximum(scale, 1))
    weights *= _between(jnp.arange(length), start, size)
    return weights / weights.sum(axis=1, keepdims=True)


def _between(
    places: Int[Array, " n"], start: Int[Array, ""], size: Int[Array, ""]
) -> Bool[Array, " n"]:
    return (places >= start) & (places < start + size)
