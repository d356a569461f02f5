"""How a step sees the batch: as a whole, or as the share that one device holds.

The train step is written once in terms of these few operations and names no device.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, PyTree

Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True)
class Whole:
    """The whole batch; XLA divides the work among the devices."""

    axis_name: ClassVar[str | None] = None

    def positions(self, count: int) -> Int[Array, " count"]:
        """Returns the positions of the examples in the whole batch."""
        return jnp.arange(count)

    def own_key(self, key: Key[Array, ""]) -> Key[Array, ""]:
        """Returns the key that this share draws from."""
        return key

    def mean(self, tree: Tree) -> Tree:
        """Returns the means over all shares."""
        return tree

    def call_on_whole(self, function: Callable[..., Tree], *arrays: Array) -> Tree:
        """Calls a function of whole batches; returns this share of its results."""
        return function(*arrays)


WHOLE = Whole()


@dataclasses.dataclass(frozen=True)
class Share:
    """One device's equal share of the batch, under pmap.

    Attributes:
        axis_name: the mesh axis over which the batch is shared.
    """

    axis_name: str

    def positions(self, count: int) -> Int[Array, " count"]:
        """Returns the positions of the examples in the whole batch."""
        return jnp.arange(count) + jax.lax.axis_index(self.axis_name) * count

    def own_key(self, key: Key[Array, ""]) -> Key[Array, ""]:
        """Returns the key that this share draws from."""
        return jax.random.fold_in(key, jax.lax.axis_index(self.axis_name))

    def mean(self, tree: Tree) -> Tree:
        """Returns the means over all shares."""
        return jax.lax.pmean(tree, self.axis_name)

    def call_on_whole(self, function: Callable[..., Tree], *arrays: Array) -> Tree:
        """Calls a function of whole batches; returns this share of its results."""
        whole: PyTree = jax.lax.all_gather(arrays, self.axis_name, tiled=True)
        count = len(arrays[0])
        start = jax.lax.axis_index(self.axis_name) * count
        return jax.tree.map(
            lambda array: jax.lax.dynamic_slice_in_dim(array, start, count),
            function(*whole),
        )
