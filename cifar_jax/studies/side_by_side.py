"""Runs processes side by side, each on its share of the machine."""

import contextlib
import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import numpy as np

from cifar_jax.errors import Stopped, UserError

_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclasses.dataclass(frozen=True)
class Share:
    """A part of the machine.

    Attributes:
        cores: The cores that processes may use; empty for this process's own.
        environment: Additional environment variables for processes.
    """

    cores: list[int] = dataclasses.field(default_factory=list)
    environment: dict[str, str] = dataclasses.field(default_factory=dict)

    def take(self) -> None:
        """Restricts the calling thread, and the processes it starts, to the cores."""
        if self.cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, self.cores)


def shares(count: int) -> list[Share]:
    """Divides the machine's CPU cores, or its GPUs.

    Raises:
        UserError: there is less than one core or device per share.
    """
    if count == 1:
        return [Share()]
    platform, devices = _devices()
    if platform == "cpu":
        cores = available_cores()
        _check(count, len(cores), "cores")
        return [Share(part.tolist()) for part in np.array_split(cores, count)]
    if platform != "gpu":
        raise UserError(
            f"--at_a_time={count} needs a CPU or GPUs, not a {platform}; leave it at 1"
        )
    _check(count, devices, "GPUs")
    visible = os.environ.get(_VISIBLE)
    names = visible.split(",") if visible else list(map(str, range(devices)))
    return [
        Share(environment={_VISIBLE: ",".join(part.tolist())})
        for part in np.array_split(names, count)
    ]


def _devices() -> tuple[str, int]:
    """Returns JAX's platform and number of devices, from a process of its own.

    A process that has asked for them holds the memory of all GPUs.
    """
    ask = "import jax; print(jax.default_backend(), jax.device_count())"
    found = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise UserError(f"JAX finds no devices: {found.stderr.strip()[-500:]}")
    platform, count = found.stdout.split()
    return platform, int(count)


def _check(count: int, available: int, what: str) -> None:
    if count > available:
        raise UserError(
            f"--at_a_time={count} exceeds the number of {what}, which is {available}"
        )


def available_cores() -> list[int]:
    """Returns the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


class Processes:
    """A context in which Ctrl-C and SIGTERM reach each child process exactly once.

    Children run in their own sessions: otherwise the terminal would signal them too,
    and a second signal makes them exit without saving. Any thread may run them.
    """

    def __init__(self) -> None:
        self._signum: int | None = None
        self._signaled = threading.Event()
        self._running: set[subprocess.Popen[bytes]] = set()
        # The handler may interrupt itself.
        self._lock = threading.RLock()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Processes":
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        with self._lock:
            self._signum = signum
            self._signaled.set()
            for process in self._running:
                process.send_signal(signum)

    def check(self) -> None:
        """Raises Stopped if a signal was received."""
        if self._signum is not None:
            raise Stopped(
                self._signum, "before all runs finished; rerun the command to continue"
            )

    def wait(self, seconds: float) -> None:
        """Waits, for less than these seconds if a signal is received."""
        self._signaled.wait(seconds)

    def run(
        self,
        command: Sequence[str],
        environment: dict[str, str],
        log: pathlib.Path,
        is_hopeless: Callable[[], bool] | None = None,
    ) -> str | None:
        """Runs a command; returns why it failed, or None if it succeeded.

        Its output and errors are appended to the log. Once `is_hopeless`, which is
        called every second, returns true, the command is stopped by SIGTERM.

        Raises:
            Stopped: a signal was received.
        """
        with log.open("ab") as file:
            start = file.tell()
            with self._lock:
                self.check()
                process = subprocess.Popen(
                    command,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=os.environ | environment,
                    start_new_session=True,
                )
                self._running.add(process)
        status = _wait(process, is_hopeless)
        with self._lock:
            self._running.remove(process)
        if status == 0:
            return None
        self.check()
        if status < 0:
            return f"ended by {signal.Signals(-status).name}"
        return _error(log.read_bytes()[start:], status)


def _wait(
    process: subprocess.Popen[bytes], is_hopeless: Callable[[], bool] | None
) -> int:
    """Returns the exit status of a process, which is stopped if it is hopeless."""
    while is_hopeless is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(1)
        if is_hopeless():
            process.terminate()
            break
    return process.wait()


def _error(output: bytes, status: int) -> str:
    """Returns a command's error line, or its last line if there is none."""
    lines = output.decode("utf-8", errors="replace").strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    last = (errors or lines or [f"exit status {status}"])[-1]
    return last.removeprefix("error: ")
