"""Three strategies for running one function on all devices, by shares of a batch.

The function takes (state, data, batches, numbers). Batches are sharded; the other
arguments and the results are replicated. The state is donated.
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from cifar_jax.devices import sharding
from cifar_jax.errors import UserError

# Of each step's batch: arrays [steps, batch, ...], the indices, for example.
Batches = dict[str, Any]
_REPLICATED = PartitionSpec()
_SHARDED = PartitionSpec(None, sharding.AXIS)


@runtime_checkable
class Strategy(Protocol):
    """How a function is spread over the devices of a mesh."""

    @property
    def mesh(self) -> Mesh:
        """The devices."""
        ...

    @property
    def axis_name(self) -> str | None:
        """The mesh axis that the function must reduce over by itself.

        None if it is written for the whole batch and XLA divides the work.
        """
        ...

    def wrap(self, function: Callable) -> jax.stages.Wrapped:
        """Returns the function on all devices, to be lowered and compiled."""
        ...

    def shard(self, batches: Batches) -> PyTree:
        """Returns the batches as the wrapped function takes them."""
        ...


class Jit:
    """The function is written for the whole batch; XLA divides the work."""

    axis_name: str | None = None

    def __init__(self, mesh: Mesh):
        self.mesh = mesh

    def wrap(self, function: Callable) -> jax.stages.Wrapped:
        """Returns the function on all devices, to be lowered and compiled."""
        return jax.jit(
            functools.partial(_on_mesh, self.mesh, function),
            donate_argnums=0,
            out_shardings=NamedSharding(self.mesh, _REPLICATED),
        )

    def shard(self, batches: Batches) -> PyTree:
        """Returns the batches as the wrapped function takes them."""
        return sharding.place(batches, NamedSharding(self.mesh, _SHARDED))


def _on_mesh(mesh: Mesh, function: Callable, *arguments: PyTree) -> PyTree:
    """Calls a function that may ask JAX for the mesh."""
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        return function(*arguments)


class ShardMap:
    """The function is written for one device's share and averages over the axis."""

    axis_name: str | None = sharding.AXIS

    def __init__(self, mesh: Mesh):
        self.mesh = mesh

    def wrap(self, function: Callable) -> jax.stages.Wrapped:
        """Returns the function on all devices, to be lowered and compiled."""
        mapped = jax.shard_map(
            function,
            mesh=self.mesh,
            in_specs=(_REPLICATED, _REPLICATED, _SHARDED, _REPLICATED),
            out_specs=_REPLICATED,
            # With the check, JAX would sum gradients implicitly, unlike pmap.
            check_vma=False,
        )
        return jax.jit(mapped, donate_argnums=0)

    def shard(self, batches: Batches) -> PyTree:
        """Returns the batches as the wrapped function takes them."""
        return Jit(self.mesh).shard(batches)


class Pmap:
    """As ShardMap, by the older transformation that courses and older code use.

    Raises:
        UserError: this version of JAX has no pmap.
    """

    axis_name: str | None = sharding.AXIS

    def __init__(self, mesh: Mesh):
        if not hasattr(jax, "pmap"):
            raise UserError(
                f"--data_parallel=pmap: JAX {jax.__version__} has no pmap any more; "
                "shard_map does the same"
            )
        self.mesh = mesh

    def wrap(self, function: Callable) -> jax.stages.Wrapped:
        """Returns the function on all devices.

        It must be lowered and compiled: called directly, it would take and return the
        arrays of this process only.
        """
        return jax.pmap(
            function,
            sharding.AXIS,
            in_axes=(None, None, 1, None),
            out_axes=None,
            devices=self.mesh.devices.flatten().tolist(),
            donate_argnums=0,
        )

    def shard(self, batches: Batches) -> PyTree:
        """Returns the batches with an additional axis of devices."""
        by_device = jax.tree.map(
            lambda x: x.reshape(len(x), self.mesh.size, -1, *x.shape[2:]), batches
        )
        return Jit(self.mesh).shard(by_device)


STRATEGIES: dict[str, Callable[[Mesh], Strategy]] = {
    "jit": Jit,
    "shard_map": ShardMap,
    "pmap": Pmap,
}
