"""A data set: images, labels, names, and where they came from."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer, Shaped, UInt8

from cifar_jax.checks import check_type
from cifar_jax.data.arrays import as_indices, blocks, bounds, part, row_bytes, take
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


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set, and what readers of its results must know about it.

    Attributes:
        name: its name, such as "cifar10".
        train: the training images, without those held out for validation.
        validation: the held-out training images; None when none were held out.
        test: the test images.
        class_names: the name of each label.
        source: where the pixels came from, in one line.
        fingerprint: SHA-256 of the pixels and labels of all training images (held out
            or not) and the test images; images that the source itself holds out come
            last.
        notice: lines that commands show before their results; None if there is nothing
            to warn about.
        official: whether it was read from files and equals CIFAR-10 or CIFAR-100 as
            published, pixel for pixel and in the same order.
        held_out: the `validation_size` with which `load` returns these splits: 0 if
            the source has its own validation images; more than there are if some were
            damaged and left out; None if it is the number of validation images.
        value_range: the values that became 0 and 255 in pictures with more than 8 bits;
            None if there are no such training pictures.
        options: the options of the data set that `load` was given.
        origin: the fingerprint of the data set that the training images were chosen
            from, with the same validation and test images; None if it is this one.
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
    held_out: int | None = None
    value_range: tuple[float, float] | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    origin: str | None = None

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
        """Builds a data set and computes its fingerprint.

        Raises:
            UserError: the parts are invalid, or inconsistent with each other.
        """
        dataset = cls(
            name=name,
            train=train,
            validation=validation,
            test=test,
            class_names=class_names,
            source=source,
            fingerprint="",
            notice=notice,
        )
        check_dataset(dataset)
        return dataclasses.replace(dataset, fingerprint=dataset.compute_fingerprint())

    @property
    def validation_size(self) -> int:
        """The setting that yields these splits: the number of images to hold out."""
        if self.held_out is not None:
            return self.held_out
        return 0 if self.validation is None else len(self.validation)

    @property
    def test_fingerprint(self) -> str:
        """Identifies the test images, whichever training images were chosen.

        Only runs with equal ones can be compared.
        """
        return self.origin or self.fingerprint

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images."""
        _, height, width, channels = self.train.images.shape
        return height, width, channels

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Number of training images in each class; unlabeled ones are in none."""
        counts = np.zeros(1 + len(self.class_names), np.int64)
        for block in blocks(self.train.labels):
            counts += np.bincount(block.astype(np.int64) + 1, minlength=len(counts))
        return tuple(counts[1:].tolist())

    def subset(
        self, chosen: Integer[Any, " m"] | Bool[Any, " n"] | Sequence[int]
    ) -> "Dataset":
        """Returns the data set with only these training images, in this order.

        Images that are held out, and test images, stay.

        Args:
            chosen: the indices of training images, which may repeat; or a mask, which
                is True for each of them.

        Raises:
            UserError: these are not training images, or none.
        """
        count = len(self.train)
        indices = as_indices(chosen, count)
        if np.array_equal(indices, np.arange(count)):
            return self
        what = f"{len(indices):,} training images chosen from {count:,}"
        return self.with_train(self.train.take(indices), what)

    def with_train(self, train: Split, change: str) -> "Dataset":
        """Returns the data set with other training images, and its fingerprint.

        Args:
            train: the training images.
            change: how they differ from these, for `source`.

        Raises:
            UserError: they cannot be used.
        """
        changed = dataclasses.replace(
            self,
            train=train,
            source=f"{self.source}; {change}",
            official=False,
            origin=self.test_fingerprint,
        )
        check_dataset(changed)
        return dataclasses.replace(changed, fingerprint=changed.compute_fingerprint())

    def compute_fingerprint(self) -> str:
        """Returns the fingerprint of the splits as they are."""
        held_out = () if self.validation is None else (self.validation,)
        return fingerprint(self.train, self.test, *held_out)

    def split(self, name: str) -> Split:
        """Returns the images of a split.

        Args:
            name: "test", "train_eval" (the training images that have labels, without
                the held-out ones) or "validation".

        Raises:
            UserError: the name is unknown, or no images were held out.
        """
        if name == "test":
            return self.test
        if name == "train_eval":
            labels = self.train.labels
            if bounds(labels)[0] >= 0:
                return self.train
            return self.train.take(np.flatnonzero(np.asarray(labels[:]) >= 0))
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


def hold_out_validation(dataset: Dataset, size: int) -> Dataset:
    """Holds out the last `size` training images as the validation split.

    The choice depends on nothing else, not even the seed, so a checkpoint is always
    evaluated on images that it was not trained on.

    Raises:
        UserError: size is negative or leaves nothing to train on.
    """
    count = len(dataset.train)
    if not 0 <= size < count:
        raise UserError(
            f"--validation_size={size} must be at least 0 and less than {count}, the "
            f"number of training images in {dataset.name}"
        )
    if size == 0:
        return dataset
    return dataclasses.replace(
        dataset,
        train=dataset.train.part(0, count - size),
        validation=dataset.train.part(count - size, count),
    )


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
    images: Any, name: str, shape: tuple[int, int, int] | None = None
) -> None:
    """Raises UserError unless images are uint8 [n, h, w, 3] with n at least 1.

    Args:
        images: the argument to check.
        name: the argument's name, for the message.
        shape: the required shape (h, w, 3); None for any.
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


def check_class_names(names: Any, name: str) -> None:
    """Raises UserError unless names are distinct printable strings.

    Args:
        names: the argument to check, which may come from an untrusted file.
        name: the argument's name, for the message.
    """
    if not (
        isinstance(names, tuple)
        and names
        and all(isinstance(one, str) for one in names)
        and len(set(names)) == len(names)
    ):
        raise UserError(
            f"{name} must be a tuple of different names, not {names!r:.1000}"
        )
    for one in names:
        if not one.isprintable():
            raise UserError(f"{name} has {one!r}, which cannot be printed; rename it")


def check_dataset(dataset: Any) -> None:
    """Raises UserError unless the parts of a data set are valid and consistent."""
    check_type(dataset, "dataset", Dataset)
    names = dataset.class_names
    check_class_names(names, "dataset.class_names")
    check_split(dataset.train, "dataset.train", len(names), may_lack_labels=True)
    if bounds(dataset.train.labels)[1] < 0:
        raise UserError("dataset.train.labels are all -1; some images must have labels")
    shape = dataset.image_shape
    check_split(dataset.test, "dataset.test", len(names), shape)
    if dataset.validation is not None:
        check_split(dataset.validation, "dataset.validation", len(names), shape)
