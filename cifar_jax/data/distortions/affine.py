"""Rotations, shears and other affine maps, by one resampling of the image.

The conventions are those of torchvision.transforms.v2.functional.affine and rotate for
tensors: what lies outside the image is black, and nothing is rounded but the result.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num, Scalar, UInt8

from cifar_jax.checks import check_range
from cifar_jax.data.distortions.base import Example
from cifar_jax.data.distortions.colors import as_bytes

Interpolation = Literal["nearest", "bilinear"]
Number = float | Float[Scalar, ""]


def inverse_matrix(
    angle: Number = 0.0,
    translate: tuple[Number, Number] = (0.0, 0.0),
    scale: Number = 1.0,
    shear: tuple[Number, Number] = (0.0, 0.0),
) -> Float[Array, "2 3"]:
    """Returns the map from a place in the new image to its place in the old one.

    Places are (x, y) in pixels from the center of the image. The image is sheared along
    x, then along y, rotated, scaled, and translated.

    Args:
        angle: clockwise, in radians.
        translate: to the right and down, in pixels.
        scale: the factor by which it grows.
        shear: tangents of the angles by which vertical lines, and then horizontal ones,
            are tilted to the left and upward.
    """
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    a, c = cos + sin * shear[1], sin - cos * shear[1]
    b, d = -(a * shear[0] + sin), cos - c * shear[0]
    # The inverse of [[a, b], [c, d]], whose determinant is 1.
    rows = ((d, -b), (-c, a))
    x, y = translate
    return jnp.array([(p, q, -(p * x + q * y)) for p, q in rows]) / scale


def resample(
    image: UInt8[Array, "h w c"],
    matrix: Float[Array, "2 3"],
    interpolation: Interpolation = "nearest",
) -> UInt8[Array, "h w c"]:
    """Returns the image that `inverse_matrix` describes."""
    height, width, _ = image.shape
    x = jnp.arange(width) - (width - 1) / 2
    y = jnp.arange(height)[:, None] - (height - 1) / 2
    columns = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] + (width - 1) / 2
    rows = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] + (height - 1) / 2
    if interpolation == "nearest":
        return _pick(image, jnp.round(rows), jnp.round(columns))
    top, left = jnp.floor(rows), jnp.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    mean = (
        (1 - down) * (1 - right) * _pick(image, top, left)
        + (1 - down) * right * _pick(image, top, left + 1)
        + down * (1 - right) * _pick(image, top + 1, left)
        + down * right * _pick(image, top + 1, left + 1)
    )
    return jnp.round(mean).astype(jnp.uint8)


def _pick(
    image: UInt8[Array, "h w c"],
    rows: Float[Array, "h w"],
    columns: Float[Array, "h w"],
) -> UInt8[Array, "h w c"]:
    """Returns the pixels in these rows and columns, which are black outside."""
    height, width, channels = image.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    # Black follows the last pixel.
    pixels = jnp.pad(image.reshape(height * width, channels), ((0, 1), (0, 0)))
    places = jnp.where(inside, rows * width + columns, height * width)
    return pixels.at[places.astype(jnp.int32)].get(mode="promise_in_bounds")


@dataclasses.dataclass(frozen=True)
class Rotate:
    """A random rotation about the center.

    Attributes:
        degrees: the angle is uniform from -degrees to degrees.
        interpolation: nearest or bilinear.
    """

    degrees: float = 30.0
    interpolation: Interpolation = "nearest"

    def __post_init__(self) -> None:
        check_range("degrees", self.degrees, at_least=0, at_most=180)

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> UInt8[Array, "h w c"]:
        angle = jnp.radians(self.degrees) * _symmetric(key)
        return resample(as_bytes(image), inverse_matrix(angle), self.interpolation)


@dataclasses.dataclass(frozen=True)
class Affine:
    """A random rotation, translation, scaling and shear, as torchvision's RandomAffine.

    Attributes:
        degrees: the angle is uniform from -degrees to degrees.
        translate: the largest shift in each direction, as a share of the size; shifts
            are whole pixels.
        scale: the range of the factor by which the image grows.
        shear: vertical lines are tilted by -shear to shear degrees.
        interpolation: nearest or bilinear.
    """

    degrees: float = 30.0
    translate: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    interpolation: Interpolation = "nearest"

    def __post_init__(self) -> None:
        check_range("degrees", self.degrees, at_least=0, at_most=180)
        check_range("translate", self.translate, at_least=0, at_most=1)
        check_range("scale", self.scale, above=0)
        check_range("scale", self.scale[::-1], at_least=self.scale[0])
        check_range("shear", self.shear, at_least=0, below=90)

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> UInt8[Array, "h w c"]:
        height, width, _ = image.shape
        angle, x, y, scale, shear = jax.random.split(key, 5)
        matrix = inverse_matrix(
            jnp.radians(self.degrees) * _symmetric(angle),
            (
                jnp.round(self.translate * width * _symmetric(x)),
                jnp.round(self.translate * height * _symmetric(y)),
            ),
            jax.random.uniform(scale, minval=self.scale[0], maxval=self.scale[1]),
            (jnp.tan(jnp.radians(self.shear) * _symmetric(shear)), 0.0),
        )
        return resample(as_bytes(image), matrix, self.interpolation)


def _symmetric(key: Key[Array, ""]) -> Float[Array, ""]:
    return jax.random.uniform(key, minval=-1, maxval=1)
