"""A data set: images, labels, names, and where they came from."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer

from cifar_jax.checks import check_type
from cifar_jax.data.arrays import as_indices, blocks, bounds
from cifar_jax.data.split import Split, check_split, fingerprint
from cifar_jax.errors import UserError


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
