"""How images become a network's inputs, in training and in evaluation."""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from cifar_jax.data import augment

Normalization = Literal["image", "channel", "mean_image"]
Views = Literal[1, 2, 10]


class Statistics(NamedTuple):
    """Of the training images: what inputs are shifted and divided by."""

    mean: Float[Array | np.ndarray, "h w 3"]
    stddev: Float[Array | np.ndarray, " 3"]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What is done to images of bytes before a network sees them.

    Attributes:
        size: height and width of an input.
        padding: black pixels added at each side before a random crop.
        random_crop: cut inputs out anywhere in training; else out of the centre.
        random_flip: mirror every other one in training.
        brightness: the largest change of brightness in training, of 255.
        contrast: the largest relative change of contrast in training.
        normalization: "image", each input to mean 0 and deviation 1; "channel", the
            training set's channels to that; "mean_image", less the training set's
            mean image.
        views: over how many views of an image evaluation takes the mean: 1, the
            centre; 2, it and its mirror image; 10, four corners and the centre and
            their mirror images.
    """

    size: int
    padding: int
    random_crop: bool
    random_flip: bool
    brightness: float
    contrast: float
    normalization: Normalization
    views: Views

    def statistics(self, images: UInt8[np.ndarray, "n h w 3"]) -> Statistics | None:
        """Those of the training images that the normalisation needs; None if none."""
        if self.normalization == "image":
            return None
        if self.normalization == "mean_image":
            mean = images.mean(axis=0, dtype=np.float64)
            return Statistics(mean.astype(np.float32), np.ones(3, np.float32))
        values = np.arange(256)
        counts = np.stack(
            [np.bincount(images[..., c].ravel(), minlength=256) for c in range(3)]
        )
        shares = counts / counts.sum(axis=1, keepdims=True)
        mean = shares @ values
        stddev = np.sqrt(shares @ values**2 - mean**2)
        # Images of one colour are left as they are.
        stddev = np.where(stddev > 0, stddev, 1)
        shape = images.shape[1:]
        return Statistics(
            np.broadcast_to(mean, shape).astype(np.float32), stddev.astype(np.float32)
        )

    def training(
        self,
        key: Key[Array, ""],
        image: UInt8[Array, "h w 3"],
        statistics: Statistics | None,
    ) -> Float[Array, "{self.size} {self.size} 3"]:
        """One distorted input: crop, flip, brightness, contrast, normalisation."""
        crop_key, flip_key, brightness_key, contrast_key = jax.random.split(key, 4)
        # Cropping and flipping only move pixels, so they may run on the bytes.
        if self.random_crop:
            side = (self.padding, self.padding)
            image = augment.random_crop(
                crop_key, jnp.pad(image, (side, side, (0, 0))), self.size
            )
        else:
            image = augment.central_crop(image, self.size)
        if self.random_flip:
            image = augment.random_flip(flip_key, image)
        image = image.astype(jnp.float32)
        if self.brightness:
            image = augment.random_brightness(brightness_key, image, self.brightness)
        if self.contrast:
            image = augment.random_contrast(
                contrast_key, image, 1 - self.contrast, 1 + self.contrast
            )
        return self._normalized(image, statistics)

    def evaluation(
        self, image: UInt8[Array, "h w 3"], statistics: Statistics | None
    ) -> Float[Array, "{self.views} {self.size} {self.size} 3"]:
        """The views of an image that evaluation takes the mean over."""
        crops = [augment.central_crop(image, self.size)]
        if self.views == 10:
            crops += augment.corners(image, self.size)
        if self.views > 1:
            crops += [crop[:, ::-1] for crop in crops]
        return jnp.stack(
            [self._normalized(crop.astype(jnp.float32), statistics) for crop in crops]
        )

    def _normalized(
        self, image: Float[Array, "h w 3"], statistics: Statistics | None
    ) -> Float[Array, "h w 3"]:
        if self.normalization == "image":
            return augment.standardize(image)
        if statistics is None:
            raise ValueError(f"normalization={self.normalization!r} needs statistics")
        # The centre of the mean image wherever the crop is, as cuda-convnet does.
        mean = augment.central_crop(jnp.asarray(statistics.mean), self.size)
        return (image - mean) / statistics.stddev
