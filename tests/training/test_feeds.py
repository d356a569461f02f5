import jax
import numpy as np
import pytest

from cifar_jax import Split
from cifar_jax.data.batches import BatchOrder
from cifar_jax.training import feeds
from cifar_jax.training.feeds import Streamed


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
        assert batch.keys() == {"images", "labels", "indices", "epochs"}
        for name, values in expected.items():
            np.testing.assert_array_equal(batch[name], values)
        for name in ("images", "labels"):
            values = np.asarray(getattr(train, name))[expected["indices"]]
            np.testing.assert_array_equal(batch[name], values)


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
    monkeypatch.setattr(feeds, "_BYTES_PER_CALL", 3 * 8 * 12)
    assert Streamed(train, order, 100).max_steps_per_call == 3
    monkeypatch.setattr(feeds, "_BYTES_PER_CALL", 1)
    assert Streamed(train, order, 100).max_steps_per_call == 1
