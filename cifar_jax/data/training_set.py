"""Identifies a run's training images among those of the same data set."""

import hashlib
from typing import NamedTuple

import numpy as np

from cifar_jax.data.arrays import blocks
from cifar_jax.data.dataset import Dataset


class TrainingSet(NamedTuple):
    """Which images a run is trained on, and what its loss knows about them.

    A data set's fingerprint covers all its pixels and labels, whichever are held out.

    Attributes:
        train: number of training images.
        validation: number of held-out images.
        train_labels: the first digits of the SHA-256 of the training labels.
        train_extra: the same for the extra arrays; empty if there are none.
    """

    train: int
    validation: int
    train_labels: str
    train_extra: str

    @classmethod
    def from_dataset(cls, dataset: Dataset) -> "TrainingSet":
        """Describes the training images of a data set."""
        labels, extra = hashlib.sha256(), hashlib.sha256()
        for block in blocks(dataset.train.labels):
            labels.update(np.ascontiguousarray(block, dtype="<i4").data)
        for name, array in sorted(dataset.train.extra.items()):
            extra.update(f"{name}: {np.dtype(array.dtype).str} {array.shape}".encode())
            for block in blocks(array):
                extra.update(block.tobytes())
        return cls(
            train=len(dataset.train),
            validation=0 if dataset.validation is None else len(dataset.validation),
            train_labels=labels.hexdigest()[:16],
            train_extra=extra.hexdigest()[:16] if dataset.train.extra else "",
        )
