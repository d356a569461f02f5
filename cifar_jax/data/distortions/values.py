"""Distortions that change the values of pixels."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num

from cifar_jax.checks import check_range
from cifar_jax.data import augment
from cifar_jax.data.distortions.base import Example


@dataclasses.dataclass(frozen=True)
class Brightness:
    """A random shift of all values.

    Attributes:
        delta: the largest change, on the scale from 0 to 255.
    """

    delta: float = 63.0

    def __post_init__(self) -> None:
        check_range("delta", self.delta, at_least=0)

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> Float[Array, "h w c"]:
        return augment.random_brightness(key, image.astype(jnp.float32), self.delta)


@dataclasses.dataclass(frozen=True)
class Contrast:
    """A random scaling of each channel's distance from its mean.

    Attributes:
        delta: the factor ranges from 1 - delta to 1 + delta.
    """

    delta: float = 0.8

    def __post_init__(self) -> None:
        check_range("delta", self.delta, at_least=0, at_most=1)

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> Float[Array, "h w c"]:
        image = image.astype(jnp.float32)
        return augment.random_contrast(key, image, 1 - self.delta, 1 + self.delta)


@dataclasses.dataclass(frozen=True)
class Cutout:
    """A uniform square at a random position, which may extend beyond the edge.

    DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with
    Cutout, 2017. Their square is 0 after normalization; here it has the image's mean.
    Their sizes, on top of crops and flips, are 16 for CIFAR-10 and 8 for CIFAR-100.

    Attributes:
        size: height and width of the square in pixels; odd ones are not truncated to
            even ones, as they are in the authors' code. The center of the square may be
            any pixel, so a square of 16 covers 14 of 32 rows on average.
    """

    size: int = 8

    def __post_init__(self) -> None:
        check_range("size", self.size, at_least=1, at_most=1024)

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> Float[Array, "h w c"]:
        height, width, _ = image.shape
        image = image.astype(jnp.float32)
        center = jax.random.randint(key, (2,), 0, jnp.array([height, width]))
        rows = jnp.arange(height) - center[0] + self.size // 2
        columns = jnp.arange(width) - center[1] + self.size // 2
        inside = _within(rows, self.size)[:, None] & _within(columns, self.size)
        return jnp.where(inside[..., None], image.mean(axis=(0, 1)), image)


def _within(positions: Int[Array, " n"], size: int) -> Array:
    return (positions >= 0) & (positions < size)
