"""What every source of images hands over: arrays, names and where they came from."""

import dataclasses
import hashlib

import numpy as np
from jaxtyping import Int32, UInt8

from cifar_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Split:
    """Images and their labels: pixels 0..255, labels 0..num_classes - 1."""

    images: UInt8[np.ndarray, "n 32 32 3"]
    labels: Int32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.labels)


def empty_images(count: int) -> UInt8[np.ndarray, "{count} 32 32 3"]:
    """Room for images, at an address where XLA's CPU device uses it uncopied."""
    alignment = 64  # XLA's; NumPy's own is 16
    room = np.empty(count * 32 * 32 * 3 + alignment, np.uint8)
    start = -room.ctypes.data % alignment
    return room[start : start + count * 32 * 32 * 3].reshape(count, 32, 32, 3)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set in memory, and what a reader of its results must know of it.

    Attributes:
        name: "cifar10" or "digits".
        train: the training images, without those held out for validation.
        validation: the held-out training images; None when none were held out.
        test: the test images.
        class_names: the name of each label.
        source: one line that says where the pixels came from.
        fingerprint: SHA-256 over the pixels and labels of all training images
            (held out or not) and the test images. Runs compare only when it is equal.
        notice: lines that a command must show before its results; None when there is
            nothing to warn of.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split
    class_names: tuple[str, ...]
    source: str
    fingerprint: str
    notice: str | None

    def split(self, name: str) -> Split:
        """Returns the images that a command names.

        Args:
            name: "test", "train_eval" (the training images without the held-out
                ones) or "validation".

        Raises:
            UserError: the name is unknown, or nothing was held out for validation.
        """
        if name == "test":
            return self.test
        if name == "train_eval":
            return self.train
        if name != "validation":
            raise UserError(
                f"no split is called {name!r}; choose test, train_eval or validation"
            )
        if self.validation is None:
            raise UserError(
                "the split 'validation' is empty: no training images were held out; "
                "set --validation_size, for training and evaluation alike"
            )
        return self.validation


def with_validation(dataset: Dataset, size: int) -> Dataset:
    """Holds out the last `size` training images as the validation split.

    Which images these are depends on nothing else, no seed either, so that a
    checkpoint is always evaluated on images that it was not trained on.

    Raises:
        UserError: size is negative or leaves nothing to train on.
    """
    count = len(dataset.train)
    if not 0 <= size < count:
        raise UserError(
            f"--validation_size={size} must be at least 0 and less than {count}, the "
            f"number of training images of {dataset.name}"
        )
    if size == 0:
        return dataset
    images, labels = dataset.train.images, dataset.train.labels
    return dataclasses.replace(
        dataset,
        train=Split(images[:-size], labels[:-size]),
        validation=Split(images[-size:], labels[-size:]),
    )


def fingerprint(train: Split, test: Split) -> str:
    """SHA-256, in hex, over the pixels and labels of both splits, in their order."""
    digest = hashlib.sha256()
    for split in (train, test):
        digest.update(np.ascontiguousarray(split.images).data)
        digest.update(np.ascontiguousarray(split.labels, dtype="<i4").data)
    return digest.hexdigest()
