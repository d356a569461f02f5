"""The processes of a run: how they start, agree and notice that one has failed.

Every process runs the same program on its own devices. The main process, process 0,
is the one that prints and writes files.
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

from cifar_jax.errors import RunError, UserError

# A process that has been silent for this long is considered dead.
_HEARTBEAT_SECS = 60

# XLA's errors begin with a status such as INTERNAL. Those of a program that runs at
# once, not queued, are plain ValueErrors.
_STATUS = re.compile(r"[A-Z_]+: ")

Value = TypeVar("Value")


def start(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins the processes of a run; call it before anything that uses a device.

    Without arguments, jax.distributed's own detection is used (SLURM, Open MPI, Cloud
    TPU, Kubernetes); if it finds nothing, this process is the only one.

    Args:
        coordinator_address: host:port on which process 0 listens.
        num_processes: the number of processes.
        process_id: the number of this process, from 0.

    Raises:
        UserError: the arguments are inconsistent.
        RunError: a process did not join.
    """
    given = (coordinator_address, num_processes, process_id)
    # JAX's handler of SIGTERM would replace ours.
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
        # JAX's message when nothing was given and nothing was detected.
        if "coordinator_address should be defined" not in str(error):
            raise UserError(f"the processes cannot be joined: {error}") from error
    except jax.errors.JaxRuntimeError as error:
        raise RunError(f"the processes cannot be joined: {error}") from error
    if not is_main():
        # Libraries print too, and one copy of that is enough; errors go to stderr.
        sys.stdout.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _check(
    coordinator_address: str | None, num_processes: int | None, process_id: int | None
) -> None:
    if coordinator_address is None or num_processes is None or process_id is None:
        raise UserError(
            "--coordinator_address, --num_processes and --process_id go together: "
            "give all three, or none on a cluster that JAX detects"
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


def is_main() -> bool:
    """Whether this is the main process, which prints and writes."""
    return jax.process_index() == 0


def all_gather(*values: int) -> np.ndarray:
    """Returns the values of every process, one row each; every process must call it."""
    if jax.process_count() == 1:
        return np.array([values])
    return np.asarray(multihost_utils.process_allgather(np.array(values, np.int32)))


def run_on_main(function: Callable[[], Value]) -> Value | None:
    """Calls a function in the main process; returns None in the others.

    Every process must call it.

    Raises:
        RunError: the function failed; the main process raises its own exception.
    """
    value, error = None, None
    if is_main():
        try:
            value = function()
        except BaseException as raised:
            error = raised
    failed = all_gather(error is not None)[0, 0]
    if error is not None:
        raise error
    if failed:
        raise RunError("process 0 has failed; its own message says why")
    return value


def check_same(identity: str) -> None:
    """Raises UserError in every process unless all pass the same text."""
    digest = hashlib.sha256(identity.encode()).digest()
    rows = all_gather(*np.frombuffer(digest, np.int32).tolist())
    for process, row in enumerate(rows):
        if (row != rows[0]).any():
            raise UserError(
                f"process {process} has other flags or other data than process 0; "
                "start all with the same"
            )


@contextlib.contextmanager
def lost_process_as_run_error() -> Iterator[None]:
    """Turns the error that is raised when another process has gone into a RunError."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if jax.process_count() == 1 or not _STATUS.match(str(error)):
            raise
        reason = str(error).splitlines()[0]
        raise RunError(
            "another process of this run has failed or cannot be reached any more "
            f"({reason}); start all of them again to resume from the last whole "
            "checkpoint"
        ) from error
