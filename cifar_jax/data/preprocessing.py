"""How images become a network's inputs, in training and in evaluation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

from cifar_jax.data import distortions
from cifar_jax.data.distortions.base import Distortion, Example, Mixture
from cifar_jax.data.normalization import Normalization, Statistics
from cifar_jax.data.views.base import Views
from cifar_jax.errors import UserError
from cifar_jax.registry import resolve_all


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What is done to images of bytes before a network sees them.

    Attributes:
        size: height and width of an input.
        distortions: of single training images, in order.
        mixtures: of batches of them, in order, after that.
        normalization: comes last, in training and in evaluation.
        views: what evaluation averages over.
    """

    size: int
    distortions: tuple[Distortion, ...]
    mixtures: tuple[Mixture, ...]
    normalization: Normalization
    views: Views

    def statistics(self, images: UInt8[np.ndarray, "n h w c"]) -> Statistics | None:
        """Returns what the normalization must know of the training images."""
        return self.normalization.statistics(images)

    def training(
        self,
        key: Key[Array, ""],
        image: UInt8[Array, "h w c"],
        epoch: Int[Array, ""],
        index: Int[Array, ""],
        statistics: Statistics | None,
    ) -> Float[Array, "{self.size} {self.size} c"]:
        """Returns one distorted and normalized input; mixtures are not applied."""
        image = self.distorted(key, image, epoch, index)
        return self.normalization(image, statistics)

    def distorted(
        self,
        key: Key[Array, ""],
        image: UInt8[Array, "h w c"],
        epoch: Int[Array, ""],
        index: Int[Array, ""],
    ) -> Float[Array, "h2 w2 c"]:
        """Returns one distorted image, with values from about 0 to 255."""
        example = Example(epoch, index, self.size)
        keys = distortions.keys(key, self.distortions)
        distorted: Array = image
        for own_key, distortion in zip(keys, self.distortions, strict=True):
            distorted = distortion(own_key, distorted, example)
        return distorted.astype(jnp.float32)

    def mixed(
        self,
        key: Key[Array, ""],
        images: Float[Array, "n h w c"],
        targets: Float[Array, "n classes"],
    ) -> tuple[Float[Array, "n h w c"], Float[Array, "n classes"]]:
        """Returns the mixtures of a batch of distorted images, and their targets."""
        keys = distortions.keys(key, self.mixtures)
        for own_key, mixture in zip(keys, self.mixtures, strict=True):
            images, targets = mixture(own_key, images, targets)
        return images, targets

    def evaluation(
        self, image: UInt8[Array, "h w c"], statistics: Statistics | None
    ) -> Float[Array, "views {self.size} {self.size} c"]:
        """Returns the normalized views of an image."""
        crops = self.views(image, self.size)
        return jnp.stack(
            [self.normalization(crop.astype(jnp.float32), statistics) for crop in crops]
        )

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """Raises UserError unless images of this shape become inputs of `size`."""
        if self.size > min(image_shape[:2]):
            height, width, _ = image_shape
            raise UserError(
                f"--image_size={self.size} is larger than the images of the data set, "
                f"{height}x{width}; give a smaller --image_size"
            )
        image = jax.ShapeDtypeStruct(image_shape, jnp.uint8)
        number = jax.ShapeDtypeStruct((), jnp.int32)
        key = jax.eval_shape(lambda: jax.random.key(0))
        made = jax.eval_shape(self.distorted, key, image, number, number).shape
        if made != (self.size, self.size, image_shape[2]):
            raise UserError(
                f"--distortions make images of {made[0]}x{made[1]}, but --image_size "
                f"is {self.size}; add crop or center_crop"
            )


def parse_distortions(text: str) -> tuple[tuple[Distortion, ...], tuple[Mixture, ...]]:
    """Returns the distortions of single images and the mixtures that a text lists.

    Raises:
        UserError: the text is not such a list, or a mixture comes before a distortion.
    """
    names = distortions.DISTORTIONS | distortions.MIXTURES
    steps = resolve_all(text, names, "distortions")
    mixtures = tuple(distortions.MIXTURES.values())
    single = tuple(step for step in steps if not isinstance(step, mixtures))
    if steps[: len(single)] != single:
        raise UserError(
            f"--distortions={text}: {' and '.join(distortions.MIXTURES)} mix whole "
            "batches, so they come last"
        )
    return single, steps[len(single) :]
