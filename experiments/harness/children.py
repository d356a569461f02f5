"""Runs training programs as child processes, timed by the lines they print."""

import dataclasses
import functools
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np
from absl import flags

from cifar_jax import plugins
from experiments.harness import output

# Steps between the log lines of the measured programs, unless a flag says otherwise.
LOG_FREQUENCY = 10
LOG_LINE = re.compile(r"step (\d+), loss = ([^ ]+)")

FLAGS = flags.FLAGS


class ChildFailedError(Exception):
    """A child process failed; the message is the last line of its stderr."""


@dataclasses.dataclass(frozen=True)
class Child:
    """A process that ended successfully.

    Attributes:
        lines: Its output lines, each with the seconds since the process started.
        peak_bytes: Its peak resident memory.
    """

    lines: list[tuple[float, str]]
    peak_bytes: int

    @property
    def log(self) -> dict[int, tuple[float, float]]:
        """The tutorial's log lines, as {step: (seconds since the start, loss)}."""
        found = ((seconds, LOG_LINE.search(text)) for seconds, text in self.lines)
        return {int(m[1]): (seconds, float(m[2])) for seconds, m in found if m}


def run_child(
    command: Sequence[str],
    environment: dict[str, str] | None = None,
    cores: Sequence[int] = (),
    folder: str | None = None,
) -> Child:
    """Runs a command to completion.

    Args:
        command: The command and its arguments.
        environment: Additional environment variables.
        cores: The cores the command may use; empty for all of them.
        folder: Its working directory; None for the current one.

    Raises:
        ChildFailedError: The exit status is not 0.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            cwd=folder,
            env=os.environ | (environment or {}),
            preexec_fn=(
                functools.partial(os.sched_setaffinity, 0, cores) if cores else None
            ),
        )
        assert process.stdout is not None
        try:
            with process.stdout:
                lines = [
                    (time.monotonic() - began, line.rstrip("\n"))
                    for line in process.stdout
                ]
        except BaseException:
            process.kill()
            process.wait()
            raise
        # Popen.wait() would discard the resource usage.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["no message"])[-1]
            raise ChildFailedError(f"exit status {process.returncode}: {last}")
    # Linux reports KiB, macOS bytes.
    return Child(lines, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def train_command(*arguments: str, log_frequency: int = LOG_FREQUENCY) -> list[str]:
    """Returns the real train command for the data chosen by the flags."""
    return [
        *(sys.executable, "-m", "cifar_jax.train"),
        f"--dataset={FLAGS.dataset}",
        f"--data_dir={FLAGS.data_dir}",
        f"--log_frequency={log_frequency}",
        *plugins.as_flags(),
        *arguments,
    ]


def throughput(child: Child, batch_size: int, from_step: int, steps: int) -> float:
    """Returns the examples/s between two log lines, by our own clock."""
    log = child.log
    seconds = log[from_step + steps][0] - log[from_step][0]
    return steps * batch_size / seconds


def write_records(
    name: str, data_dir: str, path: str, split: str = "train_eval"
) -> str:
    """Writes the images of a split as official binary records; returns their source.

    A record is one label byte, then 1,024 bytes each of red, green and blue.
    """
    from cifar_jax import load_data

    dataset = load_data(name, data_dir or None)
    part = dataset.split(split)
    images = part.images.transpose(0, 3, 1, 2).reshape(len(part), -1)
    labels = part.labels.astype(np.uint8)
    np.column_stack([labels, images]).tofile(path)
    return f"{output.without_paths(dataset.source)}, fingerprint {dataset.fingerprint}"
