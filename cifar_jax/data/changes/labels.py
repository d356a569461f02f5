"""Changes of the training labels."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Integer

from cifar_jax import noise
from cifar_jax.checks import check_range
from cifar_jax.data.changes.base import stratify
from cifar_jax.data.dataset import Dataset
from cifar_jax.errors import UserError

# Classes of CIFAR-10 that look alike, from Patrini et al., section 5.
_ALIKE = (
    ("truck", "automobile"),
    ("bird", "airplane"),
    ("deer", "horse"),
    ("cat", "dog"),
    ("dog", "cat"),
)


@dataclasses.dataclass(frozen=True)
class LabelNoise:
    """Replaces each training label, with some probability, by any other class.

    This is symmetric noise (Patrini et al., Making Deep Neural Networks Robust to Label
    Noise, 2017). `--loss=label_noise` draws the same wrong labels from the same seed.

    Attributes:
        fraction: probability that a label is replaced.
        seed: seed of the draws.
    """

    fraction: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("fraction", self.fraction, at_least=0, at_most=1)
        check_range("seed", self.seed, at_least=0, at_most=2**32 - 1)

    def __call__(self, dataset: Dataset) -> Dataset:
        """Returns the data set with these training labels."""
        labels = np.asarray(dataset.train.labels[:])
        classes = len(dataset.class_names)
        wrong, distances = _draw(self.seed, self.fraction, classes, len(labels))
        return _relabel(dataset, wrong, (labels + distances) % classes)


@dataclasses.dataclass(frozen=True)
class AsymmetricNoise:
    """Replaces training labels, with some probability, by those of similar classes.

    The default pairs are those of Patrini et al., Making Deep Neural Networks Robust to
    Label Noise, 2017, for CIFAR-10. Classes that no pair begins with keep their labels.

    Attributes:
        fraction: probability that a label of a class in the pairs is replaced.
        pairs: names of a class and of the one that replaces it.
        seed: seed of the draws.
    """

    fraction: float = 0.2
    pairs: tuple[tuple[str, str], ...] = _ALIKE
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("fraction", self.fraction, at_least=0, at_most=1)
        check_range("seed", self.seed, at_least=0, at_most=2**32 - 1)
        begun = [first for first, _ in self.pairs]
        if not begun or len(set(begun)) < len(begun):
            raise ValueError(f"pairs={self.pairs} must begin with different classes")

    def __call__(self, dataset: Dataset) -> Dataset:
        """Returns the data set with these training labels.

        Raises:
            UserError: it has no class of such a name.
        """
        known = dataset.class_names
        for name in (name for pair in self.pairs for name in pair):
            if name not in known:
                raise UserError(
                    f"--data_changes: asymmetric_noise has pairs with {name!r}, which "
                    f"is not a class of {dataset.name}; give it "
                    "pairs=(('cat', 'dog'), ...)"
                )
        # Labels -1, of unlabeled images, find the last entry.
        to = np.array([*range(len(known)), -1], np.int32)
        for first, second in self.pairs:
            to[known.index(first)] = known.index(second)
        labels = np.asarray(dataset.train.labels[:])
        wrong, _ = _draw(self.seed, self.fraction, len(known), len(labels))
        return _relabel(dataset, wrong, to[labels])


@dataclasses.dataclass(frozen=True)
class HideLabels:
    """Hides all training labels except some, the same share of each class.

    Images without a label are still in the batches, but in no loss and no metric.

    Attributes:
        kept: the number of labels that stay.
        seed: seed of the draw.
    """

    kept: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("kept", self.kept, at_least=1)
        check_range("seed", self.seed, at_least=0, at_most=2**32 - 1)

    def __call__(self, dataset: Dataset) -> Dataset:
        """Returns the data set with a label of -1 for all other images.

        Raises:
            UserError: there are fewer labels.
        """
        labels = np.asarray(dataset.train.labels[:])
        labeled = np.flatnonzero(labels >= 0)
        if self.kept > len(labeled):
            raise UserError(
                f"--data_changes: hide_labels(kept={self.kept}) is more than the "
                f"{len(labeled)} training labels of {dataset.name}; pass a smaller one"
            )
        kept = labeled[stratify(labels[labeled], self.kept, self.seed)]
        hidden = np.full(len(labels), -1, np.int32)
        hidden[kept] = labels[kept]
        if self.kept == len(labeled):
            return dataset
        train = dataclasses.replace(dataset.train, labels=hidden)
        what = f"{self.kept:,} of {len(labeled):,} training labels"
        return dataset.with_train(train, what)


def _draw(
    seed: int, fraction: float, num_classes: int, count: int
) -> tuple[Bool[np.ndarray, " {count}"], Integer[np.ndarray, " {count}"]]:
    """Returns what `noise.draw` does, for all of `count` images."""
    wrong, distances = noise.draw(seed, fraction, num_classes, np.arange(count))
    return np.asarray(wrong), np.asarray(distances)


def _relabel(
    dataset: Dataset,
    wrong: Bool[np.ndarray, " n"],
    replacements: Integer[np.ndarray, " n"],
) -> Dataset:
    """Returns the data set with some of its labels, if there are any, replaced."""
    labels = np.asarray(dataset.train.labels[:])
    noisy = np.where(wrong & (labels >= 0), replacements, labels).astype(np.int32)
    if not (count := int((noisy != labels).sum())):
        return dataset
    train = dataclasses.replace(dataset.train, labels=noisy)
    return dataset.with_train(train, f"{count:,} training labels replaced")
