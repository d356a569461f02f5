"""Images of the CIFAR family with all kinds of labels."""

import dataclasses
import hashlib

import numpy as np
from jaxtyping import Integer, UInt8

from cifar_jax.data.arrays import empty_images
from cifar_jax.data.split import Split

_BLOCK = 10_000


@dataclasses.dataclass(frozen=True)
class Records:
    """Images, with pixels from 0 to 255, and their labels of all kinds."""

    images: UInt8[np.ndarray, "n 32 32 3"]
    labels: Integer[np.ndarray, "n kinds"]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: slice) -> "Records":
        """Returns a view of some records."""
        return Records(self.images[chosen], self.labels[chosen])

    @classmethod
    def empty(cls, count: int, kinds: int) -> "Records":
        """Allocates records without filling them.

        Args:
            count: number of images.
            kinds: number of labels per image.
        """
        labels = np.empty((count, kinds), np.int32)
        return cls(empty_images(count, (32, 32, 3)), labels)

    def split(self, kind: int) -> Split:
        """Returns the images with one kind of labels, named by its column."""
        return Split(self.images, np.ascontiguousarray(self.labels[:, kind]))

    def md5(self) -> str:
        """Returns the MD5, in hex, of the records as stored in binary files."""
        digest = hashlib.md5(usedforsecurity=False)
        for start in range(0, len(self), _BLOCK):  # in blocks, because it makes copies
            block = self[start : start + _BLOCK]
            planes = block.images.transpose(0, 3, 1, 2).reshape(len(block), -1)
            digest.update(np.hstack([block.labels.astype(np.uint8), planes]).data)
        return digest.hexdigest()
