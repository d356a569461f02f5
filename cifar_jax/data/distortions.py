"""Distortions of the training images, by name.

Those in DISTORTIONS change one image; those in MIXTURES change a batch and its targets.
All are pure functions, and the bits of an existing one never depend on the others.
"""

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num

from cifar_jax.data import augment
from cifar_jax.registry import check_range


@dataclasses.dataclass(frozen=True)
class Example:
    """What is known about a training image besides its pixels.

    Attributes:
        epoch: how many times it was seen before.
        index: its number in the training set.
        size: height and width of the network's inputs.
    """

    epoch: Int[Array, ""]
    index: Int[Array, ""]
    size: int


@runtime_checkable
class Distortion(Protocol):
    """What a class in DISTORTIONS provides; its dataclass fields are its options."""

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> Num[Array, "h2 w2 c"]:
        """Returns the distorted image.

        Args:
            key: for this image in this step.
            image: bytes or floats with values from 0 to 255, or beyond: nothing is
                clipped.
            example: what else is known about the image.
        """
        ...


@runtime_checkable
class Mixture(Protocol):
    """What a class in MIXTURES provides; its dataclass fields are its options."""

    def __call__(
        self,
        key: Key[Array, ""],
        images: Float[Array, "n h w c"],
        targets: Float[Array, "n classes"],
    ) -> tuple[Float[Array, "n h w c"], Float[Array, "n classes"]]:
        """Returns a batch of mixed images and their targets.

        Args:
            key: for this step.
            images: of the whole batch, distorted one by one before.
            targets: probabilities of the classes.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Crop:
    """A random window of the network's size.

    Attributes:
        padding: black pixels added at each side before.
    """

    padding: int = 0

    def __post_init__(self) -> None:
        check_range("padding", self.padding, at_least=0, at_most=1024)

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> Num[Array, "{example.size} {example.size} c"]:
        """Returns the distorted image."""
        side = (self.padding, self.padding)
        padded = jnp.pad(image, (side, side, (0, 0)))
        return augment.random_crop(key, padded, example.size)


@dataclasses.dataclass(frozen=True)
class CenterCrop:
    """The central window of the network's size; not random."""

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> Num[Array, "{example.size} {example.size} c"]:
        """Returns the distorted image."""
        return augment.central_crop(image, example.size)


@dataclasses.dataclass(frozen=True)
class Translate:
    """A random window of the network's size, of the image continued by reflection.

    Attributes:
        by: the largest shift in pixels, in each direction.
    """

    by: int = 2

    def __post_init__(self) -> None:
        check_range("by", self.by, at_least=1, at_most=1024)

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> Num[Array, "{example.size} {example.size} c"]:
        """Returns the distorted image."""
        side = (self.by, self.by)
        padded = jnp.pad(image, (side, side, (0, 0)), mode="reflect")
        return augment.random_crop(key, padded, example.size)


@dataclasses.dataclass(frozen=True)
class Flip:
    """The mirror image with probability 1/2."""

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> Num[Array, "h w c"]:
        """Returns the distorted image."""
        return augment.random_flip(key, image)


@dataclasses.dataclass(frozen=True)
class AlternatingFlip:
    """The mirror image in every other epoch, so that two epochs show both sides.

    Which half of the images begins mirrored depends on their index alone (Jordan, 94%
    on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024, section 3.6).
    """

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> Num[Array, "h w c"]:
        """Returns the distorted image."""
        of_index = jax.random.fold_in(jax.random.key(0), example.index)
        begins_mirrored = jax.random.bernoulli(of_index).astype(jnp.int32)
        mirrored = (begins_mirrored + example.epoch) % 2 == 1
        return jnp.where(mirrored, image[:, ::-1], image)


@dataclasses.dataclass(frozen=True)
class Cutout:
    """A gray square at a random place, which may reach beyond the edge.

    DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with
    Cutout, 2017. Their square is 0 after normalization; here it is the image's mean.

    Attributes:
        size: of the square, in pixels.
    """

    size: int = 8

    def __post_init__(self) -> None:
        check_range("size", self.size, at_least=1, at_most=1024)

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> Float[Array, "h w c"]:
        """Returns the distorted image."""
        height, width, _ = image.shape
        image = image.astype(jnp.float32)
        center = jax.random.randint(key, (2,), 0, jnp.array([height, width]))
        rows = jnp.arange(height) - center[0] + self.size // 2
        columns = jnp.arange(width) - center[1] + self.size // 2
        inside = _within(rows, self.size)[:, None] & _within(columns, self.size)
        return jnp.where(inside[..., None], image.mean(axis=(0, 1)), image)


@dataclasses.dataclass(frozen=True)
class Brightness:
    """A random shift of all values.

    Attributes:
        delta: the largest change, of 255.
    """

    delta: float = 63.0

    def __post_init__(self) -> None:
        check_range("delta", self.delta, at_least=0)

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> Float[Array, "h w c"]:
        """Returns the distorted image."""
        return augment.random_brightness(key, image.astype(jnp.float32), self.delta)


@dataclasses.dataclass(frozen=True)
class Contrast:
    """A random scaling of each channel's distance from its mean.

    Attributes:
        delta: the factor is from 1 - delta to 1 + delta.
    """

    delta: float = 0.8

    def __post_init__(self) -> None:
        check_range("delta", self.delta, at_least=0, at_most=1)

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> Float[Array, "h w c"]:
        """Returns the distorted image."""
        image = image.astype(jnp.float32)
        return augment.random_contrast(key, image, 1 - self.delta, 1 + self.delta)


@dataclasses.dataclass(frozen=True)
class Mixup:
    """Weighted means of an image and the next one of the batch, and of their targets.

    Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018. One weight is drawn
    for the whole batch.

    Attributes:
        alpha: the weight is from Beta(alpha, alpha).
    """

    alpha: float = 0.2

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha, above=0)

    def __call__(
        self,
        key: Key[Array, ""],
        images: Float[Array, "n h w c"],
        targets: Float[Array, "n classes"],
    ) -> tuple[Float[Array, "n h w c"], Float[Array, "n classes"]]:
        """Returns a batch of mixed images and their targets."""
        weight = jax.random.beta(key, self.alpha, self.alpha)
        return _mean(images, weight), _mean(targets, weight)


@dataclasses.dataclass(frozen=True)
class Cutmix:
    """A rectangle of the next image of the batch, and its share of the targets.

    Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with
    Localizable Features, 2019. One rectangle is drawn for the whole batch.

    Attributes:
        alpha: the share that the image keeps is from Beta(alpha, alpha), before the
            rectangle is cut off at the edges.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha, above=0)

    def __call__(
        self,
        key: Key[Array, ""],
        images: Float[Array, "n h w c"],
        targets: Float[Array, "n classes"],
    ) -> tuple[Float[Array, "n h w c"], Float[Array, "n classes"]]:
        """Returns a batch of mixed images and their targets."""
        weight_key, center_key = jax.random.split(key)
        share = 1 - jax.random.beta(weight_key, self.alpha, self.alpha)
        extent = jnp.array(images.shape[1:3])
        center = jax.random.randint(center_key, (2,), 0, extent)
        sides = jnp.sqrt(share) * extent
        rows = jnp.abs(jnp.arange(extent[0]) + 0.5 - center[0]) < sides[0] / 2
        columns = jnp.abs(jnp.arange(extent[1]) + 0.5 - center[1]) < sides[1] / 2
        inside = rows[:, None] & columns
        mixed = jnp.where(inside[..., None], jnp.roll(images, -1, axis=0), images)
        return mixed, _mean(targets, 1 - inside.mean())


DISTORTIONS: dict[str, Callable[..., Distortion]] = {
    "crop": Crop,
    "center_crop": CenterCrop,
    "translate": Translate,
    "flip": Flip,
    "alternating_flip": AlternatingFlip,
    "cutout": Cutout,
    "brightness": Brightness,
    "contrast": Contrast,
}
MIXTURES: dict[str, type[Mixture]] = {"mixup": Mixup, "cutmix": Cutmix}

# The tutorial's four were the parts of one split of the key.
_STREAMS = {"Crop": 0, "Flip": 1, "Brightness": 2, "Contrast": 3}


def keys(key: Key[Array, ""], steps: Sequence[object]) -> list[Key[Array, ""]]:
    """Returns a key for each distortion, by its class and not by its place in the list.

    So leaving one out changes the draws of no other. One that occurs again gets a
    different key.
    """
    names = [type(step).__name__ for step in steps]
    found = []
    for place, name in enumerate(names):
        stream = _STREAMS.get(name, zlib.crc32(name.encode()))
        own = jax.random.fold_in(key, stream)
        repeats = names[:place].count(name)
        found.append(jax.random.fold_in(own, repeats) if repeats else own)
    return found


def _within(positions: Int[Array, " n"], size: int) -> Array:
    return (positions >= 0) & (positions < size)


def _mean(values: Float[Array, "n ..."], weight: Float[Array, ""]) -> Array:
    """Returns weight * values + (1 - weight) * those of the next in the batch."""
    return weight * values + (1 - weight) * jnp.roll(values, -1, axis=0)
