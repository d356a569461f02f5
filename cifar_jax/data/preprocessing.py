"""How images become a network's inputs, in training and in evaluation."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num, UInt8

from cifar_jax.data import distortions
from cifar_jax.data.distortions.base import Distortion, Example, Mixture
from cifar_jax.data.normalization import Normalization, Statistics
from cifar_jax.data.views.base import Views
from cifar_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The steps that turn images of bytes into a network's inputs.

    Images smaller than the inputs are distorted, cropped and normalized at their own
    size, and then enlarged.

    Attributes:
        size: height and width of an input.
        distortions: applied to single training images, in order.
        mixtures: applied to batches of distorted images, in order.
        normalization: applied last, in training and in evaluation.
        views: what evaluation averages over.
    """

    size: int
    distortions: tuple[Distortion, ...]
    mixtures: tuple[Mixture, ...]
    normalization: Normalization
    views: Views

    def statistics(self, images: UInt8[Any, "n h w c"]) -> Statistics | None:
        """Returns the training image statistics that the normalization needs."""
        return self.normalization.statistics(images)

    def prepare_train(
        self,
        key: Key[Array, ""],
        image: UInt8[Array, "h w c"],
        epoch: Int[Array, ""],
        index: Int[Array, ""],
        root: Key[Array, ""],
        statistics: Statistics | None,
    ) -> Float[Array, "{self.size} {self.size} c"]:
        """Returns one distorted and normalized input; mixtures are not applied."""
        return self.finish(self.distort(key, image, epoch, index, root), statistics)

    def distort(
        self,
        key: Key[Array, ""],
        image: UInt8[Array, "h w c"],
        epoch: Int[Array, ""],
        index: Int[Array, ""],
        root: Key[Array, ""],
    ) -> Float[Array, "h2 w2 c"]:
        """Returns one distorted image, with values from about 0 to 255.

        Args:
            key: random key for this image in this step.
            image: bytes.
            epoch: how many times the image was seen before.
            index: its number in the training set.
            root: the run's key, for draws that are the same in every epoch.
        """
        own = jax.random.fold_in(root, index)
        example = Example(epoch, index, own, self._crop_size(image.shape))
        keys = distortions.keys(key, self.distortions)
        distorted: Array = image
        for own_key, distortion in zip(keys, self.distortions, strict=True):
            distorted = distortion(own_key, distorted, example)
        return distorted.astype(jnp.float32)

    def mix(
        self,
        key: Key[Array, ""],
        images: Float[Array, "n h w c"],
        targets: Float[Array, "n classes"],
    ) -> tuple[Float[Array, "n h w c"], Float[Array, "n classes"]]:
        """Mixes the images in a batch, already distorted, and their targets."""
        keys = distortions.keys(key, self.mixtures)
        for own_key, mixture in zip(keys, self.mixtures, strict=True):
            images, targets = mixture(own_key, images, targets)
        return images, targets

    def prepare_eval(
        self, image: Num[Array, "h w c"], statistics: Statistics | None
    ) -> Float[Array, "views {self.size} {self.size} c"]:
        """Returns the normalized views of an image."""
        crops = self.views(image, self._crop_size(image.shape))
        return jnp.stack(
            [self.finish(crop.astype(jnp.float32), statistics) for crop in crops]
        )

    def finish(
        self, image: Float[Array, "h w c"], statistics: Statistics | None
    ) -> Float[Array, "{self.size} {self.size} c"]:
        """Turns a crop into an input: normalizes it and enlarges it if it is small.

        Enlarging is bilinear, as in Keras's UpSampling2D and in Pillow.
        """
        normalized = self.normalization(image, statistics)
        if len(image) == self.size:
            return normalized
        shape = (self.size, self.size, image.shape[2])
        return jax.image.resize(normalized, shape, "linear")

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """Raises UserError unless images of this shape become inputs of `size`."""
        image = jax.ShapeDtypeStruct(image_shape, jnp.uint8)
        number = jax.ShapeDtypeStruct((), jnp.int32)
        key = jax.eval_shape(lambda: jax.random.key(0))
        made = jax.eval_shape(self.distort, key, image, number, number, key).shape
        size = self._crop_size(image_shape)
        if made != (size, size, image_shape[2]):
            raise UserError(
                f"--distortions make images of {made[0]}x{made[1]}, but {size}x{size} "
                f"is needed for --image_size={self.size}; add crop or center_crop"
            )

    def _crop_size(self, image_shape: tuple[int, ...]) -> int:
        """Returns the height and width of crops from images of this shape."""
        return min(self.size, *image_shape[:2])
