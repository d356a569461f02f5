import dataclasses

import jax
import numpy as np
import pytest
from helpers import OnDisk

from cifar_jax import Split
from cifar_jax.data.batches import BatchOrder
from cifar_jax.devices import sharding
from cifar_jax.training import feeds
from cifar_jax.training.feeds import OnDevices, Streamed


class Recorded(np.ndarray):
    """Images that record which of them are read."""

    read: list

    def take(self, indices, *arguments, **options):
        self.read.append(indices.tolist())
        return np.asarray(self).take(indices, *arguments, **options)


@pytest.fixture
def train():
    images = np.arange(20 * 12, dtype=np.uint8).reshape(20, 2, 2, 3).view(Recorded)
    images.read = []
    return Split(images, np.arange(20, dtype=np.int32) % 3)


@pytest.fixture
def order():
    return BatchOrder(jax.random.key(0), 20, 8)


def test_a_batch_has_the_images_and_labels_of_its_indices(train, order):
    feed = Streamed(train, order, 2)
    assert feed.data is None
    for step in (0, 1, 2, 7, 3, 3):
        batch = feed.batch(step)
        expected = order(step)
        assert batch.keys() == {"images", "labels", "extra", "indices", "epochs"}
        for name, values in expected.items():
            np.testing.assert_array_equal(batch[name], values)
        for name in ("images", "labels"):
            values = np.asarray(getattr(train, name))[expected["indices"]]
            np.testing.assert_array_equal(batch[name], values)


def test_extra_arrays_come_with_the_images(train, order):
    extra = {"weight": np.arange(20.0), "teacher": np.arange(60.0).reshape(20, 3)}
    with_extra = dataclasses.replace(train, extra=extra)
    resident = OnDevices(with_extra, order, 2, sharding.create_mesh(1))
    streamed = Streamed(with_extra, order, 2)
    indices = order(5)["indices"]
    for name, array in extra.items():
        np.testing.assert_array_equal(resident.data[2][name], array)
        found = streamed.batch(5)["extra"][name]
        np.testing.assert_array_equal(found, array[indices])


def test_of_arrays_on_disk_the_rows_of_a_batch_are_read(train, order):
    images, labels = np.asarray(train.images), train.labels
    on_disk = Split(OnDisk(images), OnDisk(labels), {"number": OnDisk(labels)})
    feed = Streamed(on_disk, order, 2)
    batch = feed.batch(0)
    feed._pool.shutdown()
    indices = order(0)["indices"]
    np.testing.assert_array_equal(batch["images"], images[indices])
    np.testing.assert_array_equal(batch["labels"], labels[indices])
    np.testing.assert_array_equal(batch["extra"]["number"], labels[indices])
    expected = sorted(sorted(set(order(step)["indices"].tolist())) for step in range(5))
    for array in (on_disk.images, on_disk.labels, on_disk.extra["number"]):
        assert sorted(array.read) == expected


def test_every_batch_is_read_once_ahead_of_its_step(train, order):
    feed = Streamed(train, order, 2)
    for step in range(6):
        feed.batch(step)
    feed._pool.shutdown()
    read = sorted(train.images.read)
    assert read == sorted(order(step)["indices"].tolist() for step in range(6 + 4))


def test_a_call_takes_no_more_images_than_the_memory_may_hold(
    train, order, monkeypatch
):
    assert Streamed(train, order, 100).max_steps_per_call == 100
    monkeypatch.setattr(feeds, "BYTES_PER_CALL", 3 * 8 * 12)
    assert Streamed(train, order, 100).max_steps_per_call == 3
    monkeypatch.setattr(feeds, "BYTES_PER_CALL", 1)
    assert Streamed(train, order, 100).max_steps_per_call == 1
    # Twelve bytes more for each image.
    heavy = dataclasses.replace(train, extra={"a": np.zeros((20, 3), np.float32)})
    monkeypatch.setattr(feeds, "BYTES_PER_CALL", 4 * 8 * 12)
    assert Streamed(heavy, order, 100).max_steps_per_call == 2
