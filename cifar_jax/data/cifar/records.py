"""Images of the CIFAR family with every kind of label that they have."""

import dataclasses
import hashlib

import numpy as np
from jaxtyping import Integer, UInt8

from cifar_jax.data.arrays import empty_images
from cifar_jax.data.dataset import Split

_BLOCK = 10_000


@dataclasses.dataclass(frozen=True)
class Records:
    """Images and their labels of all kinds: pixels 0..255."""

    images: UInt8[np.ndarray, "n 32 32 3"]
    labels: Integer[np.ndarray, "n kinds"]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: slice) -> "Records":
        """Returns a view of some records."""
        return Records(self.images[chosen], self.labels[chosen])

    @classmethod
    def empty(cls, count: int, kinds: int) -> "Records":
        """Allocates records, which are still to be filled.

        Args:
            count: number of images.
            kinds: number of labels of each.
        """
        labels = np.empty((count, kinds), np.int32)
        return cls(empty_images(count, (32, 32, 3)), labels)

    def split(self, kind: int) -> Split:
        """Returns the images with one kind of labels, a column."""
        return Split(self.images, np.ascontiguousarray(self.labels[:, kind]))

    def md5(self) -> str:
        """Returns the MD5, in hex, of the records as binary files contain them."""
        digest = hashlib.md5(usedforsecurity=False)
        for start in range(0, len(self), _BLOCK):  # in blocks, because it makes copies
            block = self[start : start + _BLOCK]
            planes = block.images.transpose(0, 3, 1, 2).reshape(len(block), -1)
            digest.update(np.hstack([block.labels.astype(np.uint8), planes]).data)
        return digest.hexdigest()
