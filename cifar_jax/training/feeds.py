"""Feeds training images to the devices: all at the start, or batch by batch."""

import concurrent.futures
from typing import Any, Protocol

from jax.sharding import Mesh
from jaxtyping import PyTree

from cifar_jax.data import Split
from cifar_jax.data.arrays import empty_images, rows
from cifar_jax.data.own_order import Order
from cifar_jax.devices import sharding

# More than there may be cores, since reading threads mostly wait for the disk.
_THREADS = 4
BYTES_PER_CALL = 16 << 20

# "indices" and "epochs" as returned by an `Order`; when streaming, also "images",
# "labels" and "extra", a dictionary.
Batch = dict[str, Any]


class Feed(Protocol):
    """The source of a step's images.

    Attributes:
        data: the images, labels and extras of the whole set on the devices, or None if
            each batch contains its own.
        max_steps_per_call: the largest number of batches in one device call.
    """

    data: PyTree
    max_steps_per_call: int

    def batch(self, step: int) -> Batch:
        """Returns the part of a step's batch that is not yet on the devices."""
        ...


class OnDevices:
    """Sends the whole set to the devices once, as bytes."""

    def __init__(self, train: Split, order: Order, max_steps_per_call: int, mesh: Mesh):
        whole = (train.images, train.labels, dict(train.extra))
        self.data = sharding.replicate(mesh, whole)
        self.max_steps_per_call = max_steps_per_call
        self._order = order

    def batch(self, step: int) -> Batch:
        """Returns the indices and epochs of a step's batch."""
        return self._order(step)


class Streamed:
    """Reads the images of each batch shortly before the devices need them.

    A batch depends only on its step, so a resumed run reads the same images as an
    uninterrupted one.
    """

    data = None

    def __init__(self, train: Split, order: Order, max_steps_per_call: int):
        affordable = BYTES_PER_CALL // (order.batch_size * train.row_bytes)
        self.max_steps_per_call = max(1, min(max_steps_per_call, affordable))
        self._train = train
        self._order = order
        self._pool = concurrent.futures.ThreadPoolExecutor(_THREADS)
        self._batches: dict[int, concurrent.futures.Future[Batch]] = {}

    def batch(self, step: int) -> Batch:
        """Returns the batch of a step, and reads ahead those of the next two calls."""
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
