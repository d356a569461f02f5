"""The processes of a run: how they start, agree and notice that one has failed.

Every process runs the same program on its own devices. Only the main process, process
0, prints and writes files.
"""

import contextlib
import hashlib
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from cifar_jax import console
from cifar_jax.errors import RunError, UserError

# A process that has been silent for this long is considered dead.
_HEARTBEAT_SECS = 60
# How long a process waits for the others to start, and how long it does so silently.
WAIT_SECS = 300
SILENT_SECS = 5
# Variables that hold the number of processes, and the launchers that set them.
_CLUSTERS = {
    "SLURM_NTASKS": "Slurm",
    "OMPI_COMM_WORLD_SIZE": "Open MPI",
}

# XLA's errors begin with a status such as INTERNAL. Errors of a program that runs
# immediately, without being queued, are plain ValueErrors.
_STATUS = re.compile(r"[A-Z_]+: ")

Value = TypeVar("Value")


def start(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins the processes of a run; call it before anything that uses a device.

    Without arguments, jax.distributed's own detection is used (SLURM, Open MPI, Cloud
    TPU, Kubernetes); if it finds nothing, this process is the only one. If the others
    have not started after WAIT_SECS, this process ends with an error message.

    Args:
        coordinator_address: host:port on which process 0 listens.
        num_processes: the number of processes; if this is 1 and the only argument, this
            process is the only one, whatever JAX detects.
        process_id: the index of this process, from 0.

    Raises:
        UserError: the arguments are inconsistent, or the cluster does not answer.
        RunError: a process did not join.
    """
    if num_processes == 1 and coordinator_address is None and process_id is None:
        return
    given = (coordinator_address, num_processes, process_id)
    # JAX's handler of SIGTERM would replace ours.
    jax.config.update("jax_enable_preemption_service", False)
    if any(value is not None for value in given):
        _check(*given)
        print(
            f"process {process_id} is waiting for all {num_processes} at "
            f"{coordinator_address}; if process 0 dies, JAX aborts the others",
            flush=True,
        )
    try:
        with _waiting(num_processes), warnings.catch_warnings():
            # Raised in a pod without the package that could look for the others.
            warnings.filterwarnings("ignore", "Kubernetes environment detected")
            jax.distributed.initialize(
                *given,
                # JAX would abort the process with pages of C++ messages.
                initialization_timeout=2 * WAIT_SECS,
                heartbeat_timeout_seconds=_HEARTBEAT_SECS,
            )
    except jax.errors.JaxRuntimeError as error:
        raise RunError(f"cannot connect the processes: {error}") from error
    except Exception as error:  # Detection queries services that may answer anything.
        # JAX's message if nothing was passed and nothing was detected.
        if "coordinator_address should be defined" in str(error):
            pass
        elif _is_lone_pod():
            console.warn(
                f"Kubernetes does not say whether there are other processes ({error}); "
                "training in this one alone, as with --num_processes=1"
            )
        else:
            raise UserError(
                f"cannot connect the processes: {error}; to train in this process "
                "alone, pass --num_processes=1"
            ) from error
    if not is_main():
        # Libraries also print, and one copy of that is enough; errors go to stderr.
        sys.stdout.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _waiting(num_processes: int | None) -> Iterator[None]:
    """Reports a long wait for other processes; ends this one if they never start."""
    what = f"{num_processes or 'all'} processes of this run"
    for name, cluster in _CLUSTERS.items():
        if num_processes is None and name in os.environ:
            what = f"{os.environ[name]} processes of this run ({name} of {cluster})"
    way = "to train in this process alone, pass --num_processes=1"

    def say() -> None:
        console.note(f"waiting for the {what} to start; {way}")

    def end() -> None:
        console.note(
            f"error: the {what} have not started within {WAIT_SECS} seconds; start "
            f"all of them; {way}"
        )
        os._exit(RunError.exit_code)

    timers = [threading.Timer(SILENT_SECS, say), threading.Timer(WAIT_SECS, end)]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


def _is_lone_pod() -> bool:
    """Returns whether this is a Kubernetes pod outside of an indexed job."""
    names = os.environ
    return "KUBERNETES_SERVICE_HOST" in names and "JOB_COMPLETION_INDEX" not in names


def _check(
    coordinator_address: str | None, num_processes: int | None, process_id: int | None
) -> None:
    if coordinator_address is None or num_processes is None or process_id is None:
        raise UserError(
            "--coordinator_address, --num_processes and --process_id go together: "
            "pass all three, or none on a cluster that JAX detects"
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
    """Returns whether this is the main process, which prints and writes."""
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
                f"process {process} has different flags or data than process 0; "
                "start all of them with the same"
            )


@contextlib.contextmanager
def lost_process_as_run_error() -> Iterator[None]:
    """Turns the error raised when another process has gone into a RunError."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if jax.process_count() == 1 or not _STATUS.match(str(error)):
            raise
        reason = str(error).splitlines()[0]
        raise RunError(
            "another process of this run has failed or can no longer be reached "
            f"({reason}); restart all of them to resume from the last complete "
            "checkpoint"
        ) from error
