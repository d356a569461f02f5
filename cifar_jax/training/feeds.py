"""How training images get to the devices: all at the start, or batch by batch."""

import concurrent.futures
from typing import Any, Protocol

from jax.sharding import Mesh
from jaxtyping import PyTree

from cifar_jax.data import Split
from cifar_jax.data.arrays import empty_images, rows
from cifar_jax.data.batches import BatchOrder
from cifar_jax.devices import sharding

# Most of the time, threads that read wait for the disk.
_THREADS = 4
_BYTES_PER_CALL = 16 << 20

# "indices" and "epochs", as `BatchOrder` returns them; maybe also "images", "labels"
# and "extra", which is a dictionary.
Batch = dict[str, Any]


class Feed(Protocol):
    """Where a step finds its images.

    Attributes:
        data: the images, labels and extras of the whole set on the devices, or None if
            each batch brings its own.
        max_steps_per_call: the largest number of batches for one call of the devices.
    """

    data: PyTree
    max_steps_per_call: int

    def batch(self, step: int) -> Batch:
        """Returns the batch of a step, as far as it is not on the devices."""
        ...


class OnDevices:
    """The whole set is sent to the devices once, as bytes."""

    def __init__(
        self, train: Split, order: BatchOrder, max_steps_per_call: int, mesh: Mesh
    ):
        whole = (train.images, train.labels, dict(train.extra))
        self.data = sharding.replicate(mesh, whole)
        self.max_steps_per_call = max_steps_per_call
        self._order = order

    def batch(self, step: int) -> Batch:
        """Returns the indices and epochs of the batch of a step."""
        return self._order(step)


class Streamed:
    """The images of each batch are read shortly before the devices need them.

    A batch depends on its step alone, so a resumed training reads what one that was not
    stopped reads.
    """

    data = None

    def __init__(self, train: Split, order: BatchOrder, max_steps_per_call: int):
        affordable = _BYTES_PER_CALL // (order.batch_size * train.row_bytes)
        self.max_steps_per_call = max(1, min(max_steps_per_call, affordable))
        self._train = train
        self._order = order
        self._pool = concurrent.futures.ThreadPoolExecutor(_THREADS)
        self._batches: dict[int, concurrent.futures.Future[Batch]] = {}

    def batch(self, step: int) -> Batch:
        """Returns the batch of a step; those of two calls after it are read ahead."""
        self._batches = {
            wanted: self._batches.get(wanted) or self._pool.submit(self._read, wanted)
            for wanted in range(step, step + 1 + 2 * self.max_steps_per_call)
        }
        return self._batches[step].result()

    def _read(self, step: int) -> Batch:
        batch = self._order(step)
        indices = batch["indices"]
        train = self._train
        room = empty_images(len(indices), train.images.shape[1:])
        return {
            "images": rows(train.images, indices, out=room),
            "labels": rows(train.labels, indices),
            "extra": {name: rows(x, indices) for name, x in train.extra.items()},
            **batch,
        }
