"""Crops of an image and their mirror images."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from cifar_jax.checks import check_range
from cifar_jax.data import augment
from cifar_jax.data.views.base import Views


@dataclasses.dataclass(frozen=True)
class Center(Views):
    """The central crop, as in the tutorial."""

    def __call__(
        self, image: Num[Array, "h w c"], size: int
    ) -> list[Num[Array, "{size} {size} c"]]:
        return [augment.central_crop(image, size)]


@dataclasses.dataclass(frozen=True)
class Mirror(Views):
    """The central crop and its mirror image."""

    def __call__(
        self, image: Num[Array, "h w c"], size: int
    ) -> list[Num[Array, "{size} {size} c"]]:
        return _add_mirror_images([augment.central_crop(image, size)])


@dataclasses.dataclass(frozen=True)
class TenCrops(Views):
    """The center, four corners, and their mirror images (Krizhevsky et al., 2012)."""

    def __call__(
        self, image: Num[Array, "h w c"], size: int
    ) -> list[Num[Array, "{size} {size} c"]]:
        center = augment.central_crop(image, size)
        return _add_mirror_images([center, *augment.corners(image, size)])


@dataclasses.dataclass(frozen=True)
class ShiftedMirrors(Views):
    """The central crop, two crops shifted diagonally, and their mirror images.

    Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024, section 3.5, shifts
    by one pixel, up and left or down and right, and reflects pixels at the edges. The
    central crop counts as much as both shifted ones together.

    Attributes:
        shift: in pixels, at most 1024.
    """

    shift: int = 1

    def __post_init__(self) -> None:
        check_range("shift", self.shift, at_least=1, at_most=1024)

    def __call__(
        self, image: Num[Array, "h w c"], size: int
    ) -> list[Num[Array, "{size} {size} c"]]:
        by = self.shift
        padded = jnp.pad(image, ((by, by), (by, by), (0, 0)), mode="reflect")
        top, left = (padded.shape[0] - size) // 2, (padded.shape[1] - size) // 2
        return _add_mirror_images(
            [
                padded[top + d : top + d + size, left + d : left + d + size]
                for d in (0, -by, by)
            ]
        )

    def combine(
        self, logits: Float[Array, "n views classes"]
    ) -> Float[Array, "n classes"]:
        """Returns the weighted means of the logits."""
        weights = jnp.array([0.25, 0.125, 0.125] * 2)
        return jnp.einsum("nvc,v->nc", logits, weights)


def _add_mirror_images(crops: list[Array]) -> list[Array]:
    return crops + [crop[:, ::-1] for crop in crops]
