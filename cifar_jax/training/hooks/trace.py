"""Traces a few device calls, for --profile."""

import pathlib

import jax

from cifar_jax.console import Log
from cifar_jax.training.loop import Hook, Moment

# The first call of a run is a warm-up; the next three show the regular pattern.
_FIRST, _END = 1, 4


class Trace(Hook):
    """Writes a trace of the second through fourth device calls to a folder.

    XProf (TensorBoard's profile plugin) opens the folder; ui.perfetto.dev opens the
    file perfetto_trace.json.gz in it.
    """

    def __init__(self, directory: pathlib.Path, max_steps: int, log: Log):
        self._directory = directory
        self._max_steps = max_steps
        self._log = log
        self._calls = 0
        self._tracing = False

    def __call__(self, now: Moment) -> None:
        """Starts or stops the trace before the next call."""
        self._calls += 1
        ends = now.step == self._max_steps or now.stopped is not None
        if self._calls == _FIRST and not ends:
            jax.block_until_ready(now.state)
            jax.profiler.start_trace(self._directory, create_perfetto_trace=True)
            self._tracing = True
        elif self._calls == _END:
            self._stop()

    def __exit__(self, *error: object) -> None:
        self._stop()
        if self._calls <= _FIRST:
            self._log(
                "no trace was written: the run ended with its first device call, and "
                "tracing starts with the second; increase --max_steps"
            )

    def _stop(self) -> None:
        if self._tracing:
            jax.profiler.stop_trace()
            self._tracing = False
            self._log(f"wrote a trace to {self._directory}")
