import dataclasses
import hashlib

import numpy as np
from helpers import OnDisk, make_dataset

from cifar_jax import Split
from cifar_jax.data.dataset import hold_out_validation
from cifar_jax.data.training_set import TrainingSet


def with_extra(**extra):
    dataset = make_dataset(6, 4)
    train = dataclasses.replace(dataset.train, extra=extra)
    return dataclasses.replace(dataset, train=train)


def test_it_has_numbers_of_images_and_the_sha256_of_the_labels():
    dataset = hold_out_validation(make_dataset(6, 4), 2)
    labels = dataset.train.labels.astype("<i4").tobytes()
    digest = hashlib.sha256(labels).hexdigest()[:16]
    assert TrainingSet.from_dataset(dataset) == (4, 2, digest, "")
    assert TrainingSet.from_dataset(make_dataset(6, 4))[:2] == (6, 0)


def test_it_tells_all_extra_arrays_apart():
    weights = np.ones(6, np.float32)
    extras = [
        {},
        {"a": weights},
        {"b": weights},
        {"a": weights, "b": weights},
        {"a": weights.reshape(6, 1)},
        {"a": weights.view(np.int32)},
        {"a": np.arange(6, dtype=np.float32)},
    ]
    found = {
        TrainingSet.from_dataset(with_extra(**extra)).train_extra for extra in extras
    }
    assert len(found) == len(extras)
    one = TrainingSet.from_dataset(with_extra(a=weights, b=2 * weights))
    assert one == TrainingSet.from_dataset(with_extra(b=2 * weights, a=weights))


def test_arrays_on_disk_are_read_in_blocks(monkeypatch):
    dataset = with_extra(weight=np.arange(6.0))
    train = dataset.train
    on_disk = Split(
        train.images, OnDisk(train.labels), {"weight": OnDisk(np.arange(6.0))}
    )
    monkeypatch.setattr("cifar_jax.data.arrays.BYTES_PER_BLOCK", 16)
    found = TrainingSet.from_dataset(dataclasses.replace(dataset, train=on_disk))
    assert found == TrainingSet.from_dataset(dataset)
    assert on_disk.labels.read == [[0, 1, 2, 3], [4, 5]]
    assert on_disk.extra["weight"].read == [[0, 1], [2, 3], [4, 5]]
