"""A data set: images, labels, names, and where they came from."""

import dataclasses
import hashlib
import math
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8

from cifar_jax.checks import check_type
from cifar_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Split:
    """Images and their labels: pixels 0..255, labels 0..num_classes - 1.

    The images may be in memory, or a file that is mapped into it.
    """

    images: UInt8[np.ndarray, "n h w c"]
    labels: Integer[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images to evaluate a network on, and what a reader of the results must know.

    Attributes:
        split: the images and their labels.
        source: where they came from, in one line.
        fingerprint: SHA-256 that tells the data from others.
        notice: lines to show with the results; None if there is nothing to warn about.
    """

    split: Split
    source: str
    fingerprint: str
    notice: str | None = None

    def __len__(self) -> int:
        return len(self.split)


def empty_images(
    count: int, shape: tuple[int, int, int]
) -> UInt8[np.ndarray, "{count} h w c"]:
    """Allocates images at an address where XLA's CPU device uses them uncopied.

    Args:
        count: number of images.
        shape: height, width and channels of an image.
    """
    alignment = 64  # XLA's; NumPy's own is 16
    size = count * math.prod(shape)
    room = np.empty(size + alignment, np.uint8)
    start = -room.ctypes.data % alignment
    return room[start : start + size].reshape(count, *shape)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set, and what a reader of its results must know about it.

    Attributes:
        name: of the data set, such as "cifar10".
        train: the training images, without those held out for validation.
        validation: the held-out training images; None when none were held out.
        test: the test images.
        class_names: the name of each label.
        source: where the pixels came from, in one line.
        fingerprint: SHA-256 over the pixels and labels of all training images
            (held out or not) and the test images; those that the source of the data
            holds out come last. Only runs with equal fingerprints can be compared.
        notice: lines that commands show before their results; None if there is nothing
            to warn about.
        official: whether it was read from files and found to be CIFAR-10 or CIFAR-100
            as published, pixel for pixel and in its order.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split
    class_names: tuple[str, ...]
    source: str
    fingerprint: str
    notice: str | None
    official: bool = False

    @classmethod
    def create(
        cls,
        name: str,
        train: Split,
        test: Split,
        *,
        class_names: tuple[str, ...],
        validation: Split | None = None,
        source: str = "arrays in memory",
        notice: str | None = None,
    ) -> "Dataset":
        """Returns a data set with its fingerprint."""
        splits = (train, test) if validation is None else (train, test, validation)
        return cls(
            name=name,
            train=train,
            validation=validation,
            test=test,
            class_names=class_names,
            source=source,
            fingerprint=fingerprint(*splits),
            notice=notice,
        )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images."""
        return self.train.images.shape[1:]

    def split(self, name: str) -> Split:
        """Returns the images of a split.

        Args:
            name: "test", "train_eval" (the training images without the held-out
                ones) or "validation".

        Raises:
            UserError: the name is unknown, or no images were held out.
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
                "train with --validation_size=5000, for example, in a new --train_dir"
            )
        return self.validation


def with_validation(dataset: Dataset, size: int) -> Dataset:
    """Holds out the last `size` training images as the validation split.

    The choice depends on nothing else, in particular not on the seed, so a checkpoint
    is always evaluated on images that it was not trained on.

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


def fingerprint(*splits: Split) -> str:
    """Returns the SHA-256, in hex, of the splits' pixels and labels, in order."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(np.ascontiguousarray(split.images).data)
        digest.update(np.ascontiguousarray(split.labels, dtype="<i4").data)
    return digest.hexdigest()


def unordered_fingerprint(train: Split, test: Split) -> str:
    """Returns a fingerprint that does not depend on the order within each split."""
    digest = hashlib.sha256()
    for split in (train, test):
        labels = np.ascontiguousarray(split.labels, dtype="<i4")
        records = (
            hashlib.sha256(image.tobytes() + label.tobytes()).digest()
            for image, label in zip(split.images, labels, strict=True)
        )
        digest.update(b"".join(sorted(records)))
    return digest.hexdigest()


def check_images(
    images: Any, name: str, shape: tuple[int, int, int] | None = None
) -> None:
    """Raises UserError unless images are uint8 [n, h, w, 3] with n at least 1.

    Args:
        images: the argument.
        name: of the argument, for the message.
        shape: (h, w, 3) that they must have; None: any.
    """
    given, dtype = getattr(images, "shape", None), getattr(images, "dtype", None)
    wanted = "[n, h, w, 3]" if shape is None else f"[n, {', '.join(map(str, shape))}]"
    message = f"{name} must be an array {wanted}, not"
    if given is None or dtype is None:
        raise UserError(f"{message} {type(images).__name__}")
    if len(given) != 4 or given[3] != 3:
        raise UserError(f"{message} of shape {list(given)}{_conversion(given)}")
    if dtype != np.uint8:
        raise UserError(
            f"{name} must be bytes (uint8, 0 to 255), not {dtype}: the network does "
            "the preprocessing; convert them by images.astype(np.uint8), after "
            "255 * images if they are from 0 to 1"
        )
    if shape is not None and tuple(given[1:]) != tuple(shape):
        raise UserError(f"{message} of shape {list(given)}")
    if 0 in given:
        raise UserError(f"{name} is empty: its shape is {list(given)}")


def _conversion(shape: tuple[int, ...]) -> str:
    """Says how images of another shape become [n, h, w, 3]."""
    gray = "; repeat gray images for red, green and blue by"
    match shape:
        case (_, _, 3):
            return "; a single image becomes a batch by image[None]"
        case (_, _, _):
            return f"{gray} np.stack([images] * 3, axis=-1)"
        case (_, _, _, 1):
            return f"{gray} np.repeat(images, 3, axis=-1)"
    return ""


def check_labels(labels: Any, name: str, count: int) -> None:
    """Raises UserError unless labels are integers [count].

    Args:
        labels: the argument.
        name: of the argument, for the message.
        count: number of images.
    """
    shape, dtype = getattr(labels, "shape", None), getattr(labels, "dtype", None)
    kind = getattr(dtype, "kind", None)
    if shape is None or len(shape) != 1 or kind not in ("i", "u"):
        what = type(labels).__name__ if shape is None else f"{dtype} {list(shape)}"
        raise UserError(f"{name} must be an array of integers [n], not {what}")
    if shape != (count,):
        raise UserError(f"there are {count} images but {shape[0]} {name}")


def check_split(
    split: Any,
    name: str,
    num_classes: int,
    shape: tuple[int, int, int] | None = None,
) -> None:
    """Raises UserError unless a split has images, and a label in range for each.

    Args:
        split: the argument.
        name: of the argument, for the message.
        num_classes: labels must be from 0 to one less.
        shape: (h, w, 3) that the images must have; None: any.
    """
    check_type(split, name, Split)
    check_images(split.images, f"{name}.images", shape)
    check_labels(split.labels, f"{name}.labels", len(split.images))
    for label in (np.min(split.labels), np.max(split.labels)):
        if not 0 <= label < num_classes:
            raise UserError(
                f"{name}.labels contains {label}; with {num_classes} classes labels "
                f"are from 0 to {num_classes - 1}"
            )


def check_dataset(dataset: Any) -> None:
    """Raises UserError unless the parts of a data set are valid and consistent."""
    check_type(dataset, "dataset", Dataset)
    names = dataset.class_names
    if not (
        isinstance(names, tuple)
        and names
        and all(isinstance(name, str) for name in names)
        and len(set(names)) == len(names)
    ):
        raise UserError(
            f"dataset.class_names must be a tuple of different names, not {names!r}"
        )
    check_split(dataset.train, "dataset.train", len(names))
    shape = dataset.image_shape
    check_split(dataset.test, "dataset.test", len(names), shape)
    if dataset.validation is not None:
        check_split(dataset.validation, "dataset.validation", len(names), shape)
