"""The inputs and outputs of distortions."""

import dataclasses
from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float, Int, Key, Num


@dataclasses.dataclass(frozen=True)
class Example:
    """What a distortion can know about a training image besides its pixels.

    Attributes:
        epoch: how many times it was seen before.
        index: its number in the training set.
        key: random key that depends on the image and the run's seed, not on the epoch.
        size: height and width of the network's inputs, or of the image if it is
            smaller.
    """

    epoch: Int[Array, ""]
    index: Int[Array, ""]
    key: Key[Array, ""]
    size: int


@runtime_checkable
class Distortion(Protocol):
    """What a class in DISTORTIONS provides; its dataclass fields are its options.

    On the command line, `prob` is an option of each; see `chance.WithProb`.
    """

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> Num[Array, "h2 w2 c"]:
        """Returns the distorted image.

        Args:
            key: random key for this image in this step.
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
            key: random key for this step.
            images: the whole batch, already distorted one by one.
            targets: class probabilities.
        """
        ...
