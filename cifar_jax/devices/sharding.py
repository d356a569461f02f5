"""The device mesh of a run, and how arrays are laid out over it.

The mesh has one axis, `data`: every device holds a share of each batch and a full copy
of the parameters.
"""

import os
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from cifar_jax.checks import check_integer
from cifar_jax.devices import settings
from cifar_jax.errors import UserError

AXIS = "data"

Value = TypeVar("Value")


def create_mesh(num_devices: int | None = None) -> Mesh:
    """Returns the devices of a run as a mesh with the single axis AXIS.

    Args:
        num_devices: how many devices to use, the same number from each process; None
            uses all of them.

    Raises:
        UserError: there are fewer devices, or the processes cannot contribute equally.
    """
    devices, processes = settings.devices(), jax.process_count()
    if num_devices is None:
        num_devices = len(devices)
    num_devices = check_integer(num_devices, "--num_devices", at_least=1)
    if num_devices > len(devices):
        raise UserError(
            f"--num_devices={num_devices} must be from 1 to {len(devices)}, the number "
            "of devices that JAX sees"
        )
    if num_devices % processes:
        raise UserError(
            f"--num_devices={num_devices} cannot be divided equally among {processes} "
            "processes"
        )
    share = num_devices // processes
    chosen = [
        device
        for process in range(processes)
        for device in [d for d in devices if d.process_index == process][:share]
    ]
    return Mesh(np.array(chosen), (AXIS,))


def check_batch_size(batch_size: int, devices: int) -> None:
    """Raises UserError unless the devices can share a global batch equally."""
    if batch_size % devices == 0:
        return
    below = batch_size // devices * devices
    sizes = [str(size) for size in (below, below + devices) if size > 0]
    raise UserError(
        f"--batch_size={batch_size} cannot be divided equally among {devices} "
        f"devices; the nearest sizes that can: {' and '.join(sizes)}"
    )


def replicate(mesh: Mesh, tree: PyTree) -> PyTree:
    """Puts a full copy of the arrays on every device."""
    return place(tree, NamedSharding(mesh, PartitionSpec()))


def place(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """Lays out arrays over devices.

    Every process passes the same full arrays and feeds only its own devices.
    """
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(x.shape, sharding, lambda i: x[i]), tree
    )


def to_local(tree: PyTree) -> PyTree:
    """Returns this process's own copies of replicated arrays."""
    return jax.tree.map(
        lambda x: x.addressable_data(0) if isinstance(x, jax.Array) else x, tree
    )


def memory(mesh: Mesh) -> int | None:
    """Returns the memory of each device in bytes, or None if unknown.

    CPU devices share the memory of their machine equally.
    """
    own = mesh.local_devices
    statistics = own[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return int(statistics["bytes_limit"])
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # on Windows
        return None
    return pages * size // len(own)


def describe(mesh: Mesh, batch_size: int) -> str:
    """Describes the devices, processes and batch of a run in words."""
    kind = mesh.devices.flat[0].device_kind
    processes = jax.process_count()
    return (
        f"{mesh.size} device{'s' * (mesh.size > 1)} ({kind}) of {processes} "
        f"process{'es' * (processes > 1)}, batch size {batch_size}, "
        f"{batch_size // mesh.size} on each device"
    )
