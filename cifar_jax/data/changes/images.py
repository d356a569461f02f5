"""Changes that leave images out."""

import dataclasses

import numpy as np

from cifar_jax.checks import check_range
from cifar_jax.data.changes.base import rank_in_class, stratify
from cifar_jax.data.dataset import Dataset
from cifar_jax.data.split import Split
from cifar_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Classes:
    """Only the images of some classes, in training, validation and testing.

    Attributes:
        names: the names of these classes; their labels become 0, 1, ... in this order.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"names={self.names} must be one or more different names")

    def __call__(self, dataset: Dataset) -> Dataset:
        """Returns the data set of these classes, with its own fingerprint.

        Raises:
            UserError: there is no such class, or a split has none of these classes.
        """
        known = dataset.class_names
        for name in self.names:
            if name not in known:
                listed = ", ".join(known[:10]) + ", ..." * (len(known) > 10)
                raise UserError(
                    f"--data_changes: {dataset.name} has no class {name!r}; choose "
                    f"from {listed}"
                )
        if self.names == known:
            return dataset
        # Labels -1, of unlabeled images, find the last entry.
        new = np.full(len(known) + 1, -1, np.int32)
        new[[known.index(name) for name in self.names]] = np.arange(len(self.names))

        def chosen(split: Split, which: str) -> Split:
            labels = new[np.asarray(split.labels[:])]
            indices = np.flatnonzero(labels >= 0)
            if not indices.size:
                raise UserError(
                    f"--data_changes: {dataset.name} has no {which} image of the "
                    f"classes {', '.join(self.names)}; choose others"
                )
            return dataclasses.replace(split.take(indices), labels=labels[indices])

        train, test = chosen(dataset.train, "training"), chosen(dataset.test, "test")
        validation = dataset.validation
        if validation is not None:
            validation = chosen(validation, "validation")
        changed = dataclasses.replace(
            dataset,
            train=train,
            validation=validation,
            test=test,
            class_names=self.names,
            source=f"{dataset.source}; {len(self.names)} of {len(known)} classes",
            official=False,
            held_out=dataset.validation_size,
            origin=None,
        )
        return dataclasses.replace(changed, fingerprint=changed.compute_fingerprint())


@dataclasses.dataclass(frozen=True)
class Sample:
    """A random sample of the training images, the same share of each class.

    Samples of the same seed contain each other; see `stratify`.

    Attributes:
        size: the number of images.
        seed: seed of the draws.
    """

    size: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("size", self.size, at_least=1)
        check_range("seed", self.seed, at_least=0, at_most=2**32 - 1)

    def __call__(self, dataset: Dataset) -> Dataset:
        """Returns the data set with these training images, in their order.

        Raises:
            UserError: there are fewer images.
        """
        labels = np.asarray(dataset.train.labels[:])
        if self.size > len(labels):
            raise UserError(
                f"--train_size or --data_changes: {self.size} training images were "
                f"asked for, but {dataset.name} has {len(labels)}; pass a lower number"
            )
        return dataset.subset(stratify(labels, self.size, self.seed))


@dataclasses.dataclass(frozen=True)
class LongTail:
    """Fewer and fewer training images of each class, in the order of the labels.

    Class k of K keeps n * factor^(-k / (K - 1)) of its n images, rounded down, but at
    least one: all of the first class, and 1 / factor of the last (Cui et al.,
    Class-Balanced Loss Based on Effective Number of Samples, 2019, section 5.1).
    Unlabeled images stay.

    Attributes:
        factor: how many times as many images the first class keeps as the last.
        seed: seed of the draw of the images that stay.
    """

    factor: float
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("factor", self.factor, at_least=1)
        check_range("seed", self.seed, at_least=0, at_most=2**32 - 1)

    def __call__(self, dataset: Dataset) -> Dataset:
        """Returns the data set with the training images that stay, in their order."""
        labels = np.asarray(dataset.train.labels[:])
        places, sizes = rank_in_class(labels, self.seed)
        steps = max(1, len(dataset.class_names) - 1)
        kept = sizes * (1 / self.factor) ** (np.maximum(labels, 0) / steps)
        # Rounding must not take an image away: 5000 * 0.01 is 50, not 49.999...
        kept = np.maximum(1, np.floor(kept + 1e-6))
        return dataset.subset(np.flatnonzero((places < kept) | (labels < 0)))
