"""Traces a few device calls, for --profile."""

import pathlib
from collections.abc import Callable

import jax
from jaxtyping import PyTree

# The first call of a run is a warm-up; the next three show the regular pattern.
_FIRST, _END = 1, 4


class Trace:
    """Writes a trace of the second to the fourth device call to a folder.

    XProf (TensorBoard's profile plugin) opens the folder; ui.perfetto.dev opens the
    file perfetto_trace.json.gz in it.
    """

    def __init__(self, directory: pathlib.Path, log: Callable[[str], None]):
        self._directory = directory
        self._log = log
        self._calls = 0
        self._tracing = False

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        if self._calls <= _FIRST:
            self._log(
                "no trace was written: the run ended with its first device call, and "
                "tracing starts with the second; increase --max_steps"
            )

    def before_call(self, state: PyTree) -> None:
        """Starts or stops the trace before a call.

        Waits for the state first, so that only whole calls are traced.
        """
        if self._calls in (_FIRST, _END):
            jax.block_until_ready(state)
        if self._calls == _FIRST:
            jax.profiler.start_trace(self._directory, create_perfetto_trace=True)
            self._tracing = True
        elif self._calls == _END:
            self._stop()
        self._calls += 1

    def _stop(self) -> None:
        if self._tracing:
            jax.profiler.stop_trace()
            self._tracing = False
            self._log(f"wrote a trace to {self._directory}")
