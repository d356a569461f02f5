"""Images with labels, and what they must be."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Integer, Shaped, UInt8

from cifar_jax.checks import check_type
from cifar_jax.data.arrays import blocks, bounds, part, row_bytes, take
from cifar_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Split:
    """Images and labels, and whatever else a loss needs to know about each image.

    Arrays may be in memory, memory-mapped or on disk; see `arrays`.

    Attributes:
        images: pixels from 0 to 255.
        labels: from 0 to num_classes - 1; -1 for training images without a label.
        extra: arrays by name, with a row for each image, such as weights or a teacher's
            logits. Devices compute in 32 bits.
        names: names of the images to show people, such as file names; None to show
            their numbers.
    """

    images: UInt8[Any, "n h w c"]
    labels: Integer[Any, " n"]
    extra: Mapping[str, Shaped[Any, "n ..."]] = dataclasses.field(default_factory=dict)
    names: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def row_bytes(self) -> int:
        """Size in bytes of an image and its extra arrays, without its label."""
        return sum(map(row_bytes, (self.images, *self.extra.values())))

    def part(self, start: int, stop: int) -> "Split":
        """Returns the images from start to stop - 1, without reading them."""
        return Split(
            part(self.images, start, stop),
            part(self.labels, start, stop),
            {name: part(array, start, stop) for name, array in self.extra.items()},
            None if self.names is None else self.names[start:stop],
        )

    def take(self, indices: Integer[np.ndarray, " m"]) -> "Split":
        """Returns the images with these indices; those on disk are not read yet."""
        return Split(
            take(self.images, indices),
            take(self.labels, indices),
            {name: take(array, indices) for name, array in self.extra.items()},
            None if self.names is None else tuple(self.names[i] for i in indices),
        )


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images to evaluate a network on, and what readers of the results must know.

    Attributes:
        split: the images and their labels.
        source: where they came from, in one line.
        fingerprint: SHA-256 that identifies the data.
        notice: lines to show with the results; None if there is nothing to warn about.
    """

    split: Split
    source: str
    fingerprint: str
    notice: str | None = None

    def __len__(self) -> int:
        return len(self.split)


def fingerprint(*splits: Split) -> str:
    """Returns the SHA-256, in hex, of the splits' pixels and labels, in order."""
    digest = hashlib.sha256()
    for split in splits:
        for block in blocks(split.images):
            digest.update(np.ascontiguousarray(block).data)
        for block in blocks(split.labels):
            digest.update(np.ascontiguousarray(block, dtype="<i4").data)
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
    images: Any,
    name: str,
    shape: tuple[int, int, int] | None = None,
    may_be_floats: bool = False,
) -> None:
    """Raises UserError unless images are uint8 [n, h, w, 3] with n at least 1.

    Args:
        images: the argument to check.
        name: the argument's name, for the message.
        shape: the required shape (h, w, 3); None for any.
        may_be_floats: whether values may have any type, such as float32.
    """
    given, dtype = getattr(images, "shape", None), getattr(images, "dtype", None)
    wanted = "[n, h, w, 3]" if shape is None else f"[n, {', '.join(map(str, shape))}]"
    message = f"{name} must be an array {wanted}, not"
    if given is None or dtype is None:
        raise UserError(f"{message} {type(images).__name__}")
    if len(given) != 4 or given[3] != 3:
        raise UserError(f"{message} of shape {list(given)}{_conversion(given)}")
    if dtype != np.uint8 and not may_be_floats:
        raise UserError(
            f"{name} must be bytes (uint8, 0 to 255), not {dtype}: the network does "
            "the preprocessing; convert them with images.astype(np.uint8), after "
            "multiplying by 255 if they range from 0 to 1"
        )
    if shape is not None and tuple(given[1:]) != tuple(shape):
        raise UserError(f"{message} of shape {list(given)}")
    if 0 in given:
        raise UserError(f"{name} is empty: its shape is {list(given)}")


def _conversion(shape: tuple[int, ...]) -> str:
    """Explains how to convert images of another shape to [n, h, w, 3]."""
    gray = "; repeat gray images for red, green and blue with"
    match shape:
        case (_, _, 3):
            return "; turn a single image into a batch with image[None]"
        case (_, _, _):
            return f"{gray} np.stack([images] * 3, axis=-1)"
        case (_, _, _, 1):
            return f"{gray} np.repeat(images, 3, axis=-1)"
    return ""


def check_labels(labels: Any, name: str, count: int) -> None:
    """Raises UserError unless labels are integers [count].

    Args:
        labels: the argument to check.
        name: the argument's name, for the message.
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
    may_lack_labels: bool = False,
) -> None:
    """Raises UserError unless a split has images with valid labels, extras and names.

    Args:
        split: the argument to check.
        name: the argument's name, for the message.
        num_classes: labels must be from 0 to num_classes - 1.
        shape: the required shape (h, w, 3) of the images; None for any.
        may_lack_labels: whether labels may also be -1.
    """
    check_type(split, name, Split)
    check_images(split.images, f"{name}.images", shape)
    check_labels(split.labels, f"{name}.labels", len(split.images))
    check_label_range(split.labels, f"{name}.labels", num_classes, may_lack_labels)
    check_extra(split.extra, f"{name}.extra", len(split.images))
    if split.names is not None and len(split.names) != len(split.images):
        raise UserError(
            f"there are {len(split.images)} images but {len(split.names)} {name}.names"
        )


def check_label_range(
    labels: Integer[Any, " n"], name: str, num_classes: int, may_lack: bool = False
) -> None:
    """Raises UserError unless all labels are from 0 to num_classes - 1.

    Args:
        labels: the labels to check.
        name: the argument's name, for the message.
        num_classes: the number of classes.
        may_lack: whether labels may also be -1.
    """
    for label in bounds(labels):
        if not -may_lack <= label < num_classes:
            raise UserError(
                f"{name} contains {label}; with {num_classes} classes, labels must be "
                f"from 0 to {num_classes - 1}"
                + ", or -1 for images without a label"
                * may_lack
            )


def check_extra(extra: Any, name: str, count: int) -> None:
    """Raises UserError unless extra maps names to arrays of numbers [count, ...].

    Args:
        extra: the argument to check.
        name: the argument's name, for the message.
        count: number of images.
    """
    if not isinstance(extra, Mapping) or not all(isinstance(key, str) for key in extra):
        raise UserError(
            f"{name} must be a mapping of names to arrays, such as "
            f'{{"weight": weights}}, not {type(extra).__name__}'
        )
    for key, array in extra.items():
        own = f"{name}[{key!r}]"
        shape, dtype = getattr(array, "shape", None), getattr(array, "dtype", None)
        kind, size = getattr(dtype, "kind", None), getattr(dtype, "itemsize", 0)
        if key == "index":
            raise UserError(
                f"{own}: this name is taken by the number of an image in the training "
                "set; choose another"
            )
        if not shape or kind not in ("b", "i", "u", "f"):
            what = type(array).__name__ if shape is None else f"{dtype} {list(shape)}"
            raise UserError(f"{own} must be an array of numbers [n, ...], not {what}")
        if shape[0] != count:
            raise UserError(f"there are {count} images but {shape[0]} rows of {own}")
        if kind in ("i", "u") and size > 4:
            for number in bounds(array):
                if not -(2**31) <= number < 2**31:
                    raise UserError(
                        f"{own} contains {number}; integers have 32 bits on the "
                        "devices, so use smaller ones, or floats"
                    )
