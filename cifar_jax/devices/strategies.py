"""Three ways in which JAX runs one function on all devices, a share of the batch each.

The function takes (state, data, batches, count). State, data and all that comes out
lie whole on every device, and the state is used up; batches are shared out.
"""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int32, PyTree

from cifar_jax.devices import parallel
from cifar_jax.errors import UserError

Batches = Int32[np.ndarray, "steps batch"]
_WHOLE = PartitionSpec()
_SHARED_OUT = PartitionSpec(None, parallel.AXIS)


class ByJit:
    """The function is that of the whole batch; XLA divides the work by itself.

    Attributes:
        axis_name: what the function must know of being one of many; None if nothing.
        mesh: the devices.
        whole: the sharding of what lies whole on every device.
    """

    axis_name: str | None = None

    def __init__(self, mesh: Mesh):
        self.mesh = mesh
        self.whole = NamedSharding(mesh, _WHOLE)

    def create(self, function: Callable[[], PyTree]) -> PyTree:
        """What the function returns, whole on every device."""
        return jax.jit(function, out_shardings=self.whole)()

    def spread(self, function: Callable) -> jax.stages.Wrapped:
        """The function on all devices, to be lowered and compiled.

        Called as it is, that of pmap would take and give a process's own arrays only.
        """
        return jax.jit(function, donate_argnums=0, out_shardings=self.whole)

    def share_out(self, batches: Batches) -> PyTree:
        """The batches as the function wants them."""
        return parallel.place(batches, NamedSharding(self.mesh, _SHARED_OUT))


class ByShardMap(ByJit):
    """The function is that of one share; it says where shares are averaged."""

    axis_name: str | None = parallel.AXIS

    def spread(self, function: Callable) -> jax.stages.Wrapped:
        """The function on all devices."""
        mapped = jax.shard_map(
            function,
            mesh=self.mesh,
            in_specs=(_WHOLE, _WHOLE, _SHARED_OUT, _WHOLE),
            out_specs=_WHOLE,
            # With the check JAX would sum gradients unasked, which pmap does not.
            check_vma=False,
        )
        return jax.jit(mapped, donate_argnums=0)


class ByPmap(ByShardMap):
    """The older way to say the same, which courses and older code use.

    Raises:
        UserError: this JAX has no pmap any more.
    """

    def __init__(self, mesh: Mesh):
        if not hasattr(jax, "pmap"):
            raise UserError(
                f"--data_parallel=pmap: JAX {jax.__version__} has no pmap any more; "
                "shard_map does the same"
            )
        super().__init__(mesh)

    def spread(self, function: Callable) -> jax.stages.Wrapped:
        """The function on all devices."""
        return jax.pmap(
            function,
            parallel.AXIS,
            in_axes=(None, None, 1, None),
            out_axes=None,
            devices=self.mesh.devices.flatten().tolist(),
            donate_argnums=0,
        )

    def share_out(self, batches: Batches) -> PyTree:
        """The batches as the function wants them: with an axis of devices."""
        return super().share_out(batches.reshape(len(batches), self.mesh.size, -1))


MODES: dict[str, type[ByJit]] = {"jit": ByJit, "shard_map": ByShardMap, "pmap": ByPmap}
