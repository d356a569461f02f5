"""Normalizations, by name: the last step from pixels to the network's inputs."""

import dataclasses
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from cifar_jax.data import augment
from cifar_jax.data.arrays import blocks
from cifar_jax.registry import Registry


class Statistics(NamedTuple):
    """Training image statistics by which inputs are shifted and scaled."""

    mean: Float[Array | np.ndarray, "h w c"]
    stddev: Float[Array | np.ndarray, " c"]


@runtime_checkable
class Normalization(Protocol):
    """What a class in NORMALIZATIONS provides."""

    def statistics(self, images: UInt8[Any, "n h w c"]) -> Statistics | None:
        """Returns the required statistics of the training images; None if none are."""
        ...

    def __call__(
        self, image: Float[Array, "h w c"], statistics: Statistics | None
    ) -> Float[Array, "h w c"]:
        """Normalizes an image with values from about 0 to 255."""
        ...


@dataclasses.dataclass(frozen=True)
class PerImage:
    """Scales each image to mean 0 and standard deviation 1, as in the tutorial."""

    def statistics(self, images: UInt8[Any, "n h w c"]) -> None:
        """Returns None: each image is normalized on its own."""

    def __call__(
        self, image: Float[Array, "h w c"], statistics: Statistics | None
    ) -> Float[Array, "h w c"]:
        return augment.standardize(image)


@dataclasses.dataclass(frozen=True)
class PerChannel:
    """Scales channels to mean 0 and standard deviation 1 over the training set."""

    def statistics(self, images: UInt8[Any, "n h w c"]) -> Statistics:
        """Returns the mean and the standard deviation of each channel, in float64."""
        values = np.arange(256)
        counts = np.zeros((images.shape[-1], 256), np.int64)
        # The images may not fit into memory.
        for block in blocks(images):
            for channel, count in enumerate(counts):
                count += np.bincount(block[..., channel].ravel(), minlength=256)
        shares = counts / counts.sum(axis=1, keepdims=True)
        mean = shares @ values
        stddev = np.sqrt(shares @ values**2 - mean**2)
        # A constant channel is only shifted.
        stddev = np.where(stddev > 0, stddev, 1)
        return Statistics(
            np.broadcast_to(mean, images.shape[1:]).astype(np.float32),
            stddev.astype(np.float32),
        )

    def __call__(
        self, image: Float[Array, "h w c"], statistics: Statistics | None
    ) -> Float[Array, "h w c"]:
        return _shift_and_scale(image, statistics)


@dataclasses.dataclass(frozen=True)
class MeanImage:
    """Subtracts the mean image of the training set, as cuda-convnet does."""

    def statistics(self, images: UInt8[Any, "n h w c"]) -> Statistics:
        """Returns the mean image, and standard deviations of 1."""
        total = np.zeros(images.shape[1:], np.int64)
        for block in blocks(images):
            total += block.sum(axis=0, dtype=np.int64)
        return Statistics(
            (total / len(images)).astype(np.float32),
            np.ones(images.shape[-1], np.float32),
        )

    def __call__(
        self, image: Float[Array, "h w c"], statistics: Statistics | None
    ) -> Float[Array, "h w c"]:
        return _shift_and_scale(image, statistics)


@dataclasses.dataclass(frozen=True)
class _Fixed:
    """A normalization by constants that do not depend on the training set."""

    def statistics(self, images: UInt8[Any, "n h w c"]) -> None:
        """Returns None: no statistics are needed."""


@dataclasses.dataclass(frozen=True)
class Caffe(_Fixed):
    """Subtracts ImageNet's mean color and reorders the channels to BGR.

    Keras does this for VGG16, VGG19 and ResNet50, whose weights come from Caffe:
    `imagenet_utils.preprocess_input(mode="caffe")`.
    """

    def __call__(
        self, image: Float[Array, "h w 3"], statistics: Statistics | None
    ) -> Float[Array, "h w 3"]:
        return image[..., ::-1] - jnp.array([103.939, 116.779, 123.68])


@dataclasses.dataclass(frozen=True)
class Tf(_Fixed):
    """Scales pixels to values from -1 to 1.

    Keras does this for MobileNet, InceptionV3, Xception and InceptionResNetV2:
    `imagenet_utils.preprocess_input(mode="tf")`.
    """

    def __call__(
        self, image: Float[Array, "h w c"], statistics: Statistics | None
    ) -> Float[Array, "h w c"]:
        return image / 127.5 - 1


@dataclasses.dataclass(frozen=True)
class Torch(_Fixed):
    """Scales channels to mean 0 and standard deviation 1 over ImageNet.

    PyTorch's torchvision does this, and so does Keras for DenseNet:
    `imagenet_utils.preprocess_input(mode="torch")`.
    """

    def __call__(
        self, image: Float[Array, "h w 3"], statistics: Statistics | None
    ) -> Float[Array, "h w 3"]:
        mean, stddev = (
            jnp.array([0.485, 0.456, 0.406]),
            jnp.array([0.229, 0.224, 0.225]),
        )
        return (image / 255 - mean) / stddev


NORMALIZATIONS: Registry[Normalization] = Registry(
    Normalization,
    {
        "image": PerImage,
        "channel": PerChannel,
        "mean_image": MeanImage,
        "caffe": Caffe,
        "tf": Tf,
        "torch": Torch,
    },
)


def _shift_and_scale(
    image: Float[Array, "h w c"], statistics: Statistics | None
) -> Float[Array, "h w c"]:
    if statistics is None:
        raise ValueError("this normalization needs statistics of the training images")
    # The center of the mean image wherever the crop is, as in cuda-convnet.
    mean = augment.central_crop(jnp.asarray(statistics.mean), image.shape[0])
    return (image - mean) / statistics.stddev
