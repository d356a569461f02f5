"""Devices and processes: which there are, and what all agree on.

There is one axis, `data`: each device has a share of every batch and all of the
parameters. Every process runs the same program on the devices of its own.
"""

import contextlib
import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from cifar_jax.checks import check_integer
from cifar_jax.errors import RunError, UserError

AXIS = "data"

# A process that has not been heard of for so long is taken for dead.
_HEARTBEAT_SECS = 60

# What errors of XLA begin with: its status. Those of a program that is run at once, not
# queued up, come as mere ValueErrors.
_STATUS = re.compile(r"[A-Z_]+: ")

Value = TypeVar("Value")


def start(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins the processes of a run; must come before anything that uses a device.

    Without arguments it asks jax.distributed's own detection (SLURM, Open MPI, Cloud
    TPU, Kubernetes); where that finds nothing, this process is the only one.

    Args:
        coordinator_address: host:port on which process 0 is to listen.
        num_processes: how many there are.
        process_id: which of them this is, from 0.

    Raises:
        UserError: the arguments do not go together.
        RunError: not all processes came.
    """
    given = (coordinator_address, num_processes, process_id)
    # Its handler of SIGTERM would stand in the way of ours.
    jax.config.update("jax_enable_preemption_service", False)
    if any(value is not None for value in given):
        _check(*given)
        print(
            f"process {process_id} waits for all {num_processes} at "
            f"{coordinator_address}; if process 0 dies, JAX aborts the others",
            flush=True,
        )
    try:
        jax.distributed.initialize(*given, heartbeat_timeout_seconds=_HEARTBEAT_SECS)
    except ValueError as error:
        # What JAX says when it was told nothing and has detected nothing.
        if "coordinator_address should be defined" not in str(error):
            raise UserError(f"the processes cannot be joined: {error}") from error
    except jax.errors.JaxRuntimeError as error:
        raise RunError(f"the processes cannot be joined: {error}") from error
    if not is_first():
        # Of the libraries' lines, too, one process's are enough; errors go to stderr.
        sys.stdout.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _check(
    coordinator_address: str | None, num_processes: int | None, process_id: int | None
) -> None:
    if coordinator_address is None or num_processes is None or process_id is None:
        raise UserError(
            "--coordinator_address, --num_processes and --process_id go together: "
            "give all three, or none where the cluster tells"
        )
    host, _, port = coordinator_address.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise UserError(
            f"--coordinator_address={coordinator_address} is not host:port, such as "
            "localhost:12345, with a port from 1 to 65535"
        )
    if not 0 <= process_id < num_processes:
        raise UserError(
            f"--process_id={process_id} must be from 0 to {num_processes - 1}, one "
            f"less than --num_processes"
        )


def mesh(num_devices: int | None = None) -> Mesh:
    """The devices of a run as a mesh with the one axis AXIS.

    Args:
        num_devices: use the first so many, of each process equally many; None: all.

    Raises:
        UserError: there are not so many, or the processes would not have equal shares.
    """
    devices, processes = jax.devices(), jax.process_count()
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
            f"--num_devices={num_devices} cannot be shared out equally among "
            f"{processes} processes"
        )
    share = num_devices // processes
    chosen = [
        device
        for process in range(processes)
        for device in [d for d in devices if d.process_index == process][:share]
    ]
    return Mesh(np.array(chosen), (AXIS,))


def check_batch_size(batch_size: int, devices: int) -> None:
    """Raises UserError unless a global batch can be shared out among the devices."""
    if batch_size % devices == 0:
        return
    below = batch_size // devices * devices
    sizes = [str(size) for size in (below, below + devices) if size > 0]
    raise UserError(
        f"--batch_size={batch_size} cannot be shared out equally among {devices} "
        f"devices; the nearest that can: {' and '.join(sizes)}"
    )


def replicate(mesh: Mesh, tree: PyTree) -> PyTree:
    """The arrays, whole, on every device."""
    return place(tree, NamedSharding(mesh, PartitionSpec()))


def place(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """The arrays laid out over devices; every process gives them whole, and the same.

    Each feeds its own devices and no others.
    """
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(x.shape, sharding, lambda i: x[i]), tree
    )


def local(tree: PyTree) -> PyTree:
    """This process's own copies of arrays that lie whole on every device."""
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


def is_first() -> bool:
    """Whether this is the process that prints and writes."""
    return jax.process_index() == 0


def agree(*values: int) -> np.ndarray:
    """The values of every process, in a row each; all processes must call it."""
    if jax.process_count() == 1:
        return np.array([values])
    return np.asarray(multihost_utils.process_allgather(np.array(values, np.int32)))


def in_first(function: Callable[[], Value]) -> Value | None:
    """What the function returns in the first process, None in the others.

    Raises:
        RunError: it failed there; in the first process, whatever it raised.
    """
    value, error = None, None
    if is_first():
        try:
            value = function()
        except BaseException as raised:
            error = raised
    failed = agree(error is not None)[0, 0]
    if error is not None:
        raise error
    if failed:
        raise RunError("process 0 has failed; it says why")
    return value


def check_same(identity: str) -> None:
    """Raises UserError in every process unless all give the same text."""
    digest = hashlib.sha256(identity.encode()).digest()
    rows = agree(*np.frombuffer(digest, np.int32))
    for process, row in enumerate(rows):
        if (row != rows[0]).any():
            raise UserError(
                f"process {process} has other flags or other data than process 0; "
                "start all with the same"
            )


@contextlib.contextmanager
def others_at_work() -> Iterator[None]:
    """Turns the error that a process meets when another has gone into a RunError."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if jax.process_count() == 1 or not _STATUS.match(str(error)):
            raise
        reason = str(error).splitlines()[0]
        raise RunError(
            "another process of this run has failed, or cannot be reached any more "
            f"({reason}); start all of them again, and the run goes on from its last "
            "whole checkpoint"
        ) from error


def describe(mesh: Mesh, batch_size: int) -> str:
    """Devices, processes and batch of a run, in words."""
    kind = mesh.devices.flat[0].device_kind
    processes = jax.process_count()
    return (
        f"{mesh.size} device{'s' * (mesh.size > 1)} ({kind}) of {processes} "
        f"process{'es' * (processes > 1)}, batch size {batch_size}, "
        f"{batch_size // mesh.size} on each device"
    )
