"""What changes of a data set have in common."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Integer

from cifar_jax.data.dataset import Dataset


@runtime_checkable
class Change(Protocol):
    """The interface of classes in DATA_CHANGES; their dataclass fields are options."""

    def __call__(self, dataset: Dataset) -> Dataset:
        """Returns the data set with other training images or labels.

        The result must be a function of the data set and the options alone. See
        `Dataset.subset` and `Dataset.with_train`.
        """
        ...


def rank_in_class(
    labels: Integer[np.ndarray, " n"], seed: int
) -> tuple[Integer[np.ndarray, " n"], Integer[np.ndarray, " n"]]:
    """Returns the place of each image in a random order of its class, and its size.

    Args:
        labels: the labels; unlabeled images (-1) count as one more class.
        seed: seed of the order.

    Returns:
        places: from 0 to the size of the class - 1.
        sizes: the number of images in the class of each image.
    """
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    # The draws of a RandomState are the same in all versions of NumPy.
    shuffled = np.random.RandomState(seed).permutation(len(labels))
    by_class = np.lexsort((shuffled, classes))
    starts = np.cumsum(counts) - counts
    places = np.empty(len(labels), np.int64)
    places[by_class] = np.arange(len(labels)) - starts[classes[by_class]]
    return places, counts[classes]


def stratify(
    labels: Integer[np.ndarray, " n"], size: int, seed: int
) -> Integer[np.ndarray, " {size}"]:
    """Returns the indices of some images, the same share of each class, in order.

    Shares are rounded up as long as there are images left to choose, so no class is
    left out unless there are fewer images than classes. Fewer images are always some of
    the more images that are chosen by the same seed.

    Args:
        labels: the labels; unlabeled images (-1) count as one more class.
        size: the number of images to choose, at most n.
        seed: seed of the draws.
    """
    places, sizes = rank_in_class(labels, seed)
    # The method of Adams: the next image is of the class with the smallest share so
    # far, or of the first of such classes.
    order = np.lexsort((labels, places / sizes))
    return np.sort(order[:size])
