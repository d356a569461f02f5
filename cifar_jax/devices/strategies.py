"""Two ways to run a function on all devices, each of which holds a share of a batch.

The function takes (state, data, batches, count). Batches are sharded; the other
arguments and the results are replicated. The state is donated.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from cifar_jax.devices import sharding
from cifar_jax.devices.share import Share, Whole
from cifar_jax.errors import UserError

# Arrays of each step's batch, such as indices: [steps, batch, ...].
Batches = dict[str, Any]


@runtime_checkable
class Strategy(Protocol):
    """How a function is distributed over the devices of a mesh; hashable."""

    @property
    def mesh(self) -> Mesh:
        """The devices."""
        ...

    @property
    def share(self) -> Whole | Share:
        """The part of a batch that the function sees."""
        ...

    def wrap(self, function: Callable[..., PyTree]) -> jax.stages.Wrapped:
        """Returns the function for all devices, to be lowered and compiled."""
        ...

    def shard(self, batches: Batches) -> PyTree:
        """Returns the batches as the wrapped function takes them."""
        ...


@dataclasses.dataclass(frozen=True)
class Jit:
    """The function is written for the whole batch; XLA divides the work."""

    mesh: Mesh
    share: ClassVar[Whole] = Whole()

    def wrap(self, function: Callable[..., PyTree]) -> jax.stages.Wrapped:
        """Returns the function for all devices, to be lowered and compiled."""
        return jax.jit(
            functools.partial(_call_on_mesh, self.mesh, function),
            donate_argnums=0,
            out_shardings=NamedSharding(self.mesh, PartitionSpec()),
        )

    def shard(self, batches: Batches) -> PyTree:
        """Returns the batches as the wrapped function takes them."""
        sharded = NamedSharding(self.mesh, PartitionSpec(None, sharding.AXIS))
        return sharding.place(batches, sharded)


def _call_on_mesh(
    mesh: Mesh, function: Callable[..., PyTree], *arguments: PyTree
) -> PyTree:
    """Calls a function that may ask JAX for the mesh."""
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        return function(*arguments)


@dataclasses.dataclass(frozen=True)
class Pmap:
    """The function is written for one device's share and averages over the axis.

    In the versions of JAX that this package runs on, pmap is shard_map underneath.

    Raises:
        UserError: this version of JAX has no pmap.
    """

    mesh: Mesh
    share: ClassVar[Share] = Share(sharding.AXIS)

    def __post_init__(self) -> None:
        if not hasattr(jax, "pmap"):
            raise UserError(
                f"--data_parallel=pmap: JAX {jax.__version__} no longer has pmap; "
                "--data_parallel=jit gives the same results"
            )

    def wrap(self, function: Callable[..., PyTree]) -> jax.stages.Wrapped:
        """Returns the function for all devices.

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


STRATEGIES: dict[str, Callable[[Mesh], Strategy]] = {"jit": Jit, "pmap": Pmap}
