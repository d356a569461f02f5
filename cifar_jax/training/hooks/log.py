"""The tutorial's log lines, on the screen and on disk."""

import datetime

import numpy as np

from cifar_jax.config.config import Config
from cifar_jax.console import Log
from cifar_jax.training.loop import Hook, Moment
from cifar_jax.training.program import Program
from cifar_jax.writers import Summary, Writers


class LogLines(Hook):
    """Logs loss and speed at every `log_frequency`-th step, including the first.

    The speed covers the steps since the last line, excluding hooks. The writers get the
    same numbers, from which a run's curves are drawn.
    """

    def __init__(
        self, config: Config, program: Program, start: int, writers: Writers, log: Log
    ):
        """Starts at step `start`; the program's metrics are logged after the loss."""
        self._writers = writers
        self._log = log
        self._log_frequency = config.log_frequency
        self._batch_size = config.batch_size
        self._metrics = [metric.name for metric in program.metrics]
        self._before = start, 0.0

    def due(self, step: int) -> int:
        """Returns the step after the next multiple of log_frequency."""
        return step + -step % self._log_frequency + 1

    def __call__(self, now: Moment) -> None:
        """Logs a line if the last step is due."""
        if (now.step - 1) % self._log_frequency:
            return
        step, seconds = self._before
        self._before = now.step, now.seconds
        values = {name: float(np.asarray(now.metrics[name])) for name in self._metrics}
        loss = float(np.asarray(now.metrics["total_loss"]))
        pace = (now.seconds - seconds) / (now.step - step)
        line = log_line(now.step - 1, loss, self._batch_size, pace)
        self._log(line + "".join(f", {name} = {v:.4g}" for name, v in values.items()))
        logged = {"total_loss_raw": loss, "examples/sec": self._batch_size / pace}
        self._writers.note(Summary("log", now.step - 1, logged | values))


def log_line(step: int, loss: float, batch_size: int, seconds: float) -> str:
    """Returns the tutorial's log line; `seconds` is the time of one step."""
    return (
        f"{now()}: step {step}, loss = {loss:.2f} "
        f"({batch_size / seconds:.1f} examples/sec; {seconds:.3f} sec/batch)"
    )


def now() -> str:
    """Returns the time as in the tutorial's log lines."""
    return datetime.datetime.now().isoformat(sep=" ", timespec="microseconds")
