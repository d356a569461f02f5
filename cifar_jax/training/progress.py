"""How fast a training goes, and the tutorial's line that says so."""

import concurrent.futures
import datetime
import time

import jax
from jaxtyping import PyTree


class Stopwatch:
    """Measures how long the device works, without what is skipped (a save).

    The host may notice late that a call has ended, because it waits for the next one
    to be accepted; a thread notices at once. The clock is perf_counter because that of
    Windows is otherwise too coarse: no call must seem to take no time.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = time.perf_counter()
        self._thread = concurrent.futures.ThreadPoolExecutor(1)

    def __enter__(self) -> "Stopwatch":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def watch(self, results: PyTree) -> concurrent.futures.Future[float]:
        """The time, yet to come, at which the results of a call are there."""
        return self._thread.submit(_time_when_ready, results)

    def count(self, ended: concurrent.futures.Future[float]) -> None:
        """Adds the time up to the end of a call, which it waits for."""
        now = ended.result()
        self.seconds += now - self._since
        self._since = now

    def skip(self) -> None:
        """Leaves out the time since the last call that was counted."""
        self._since = time.perf_counter()


class Pace:
    """Seconds a step, on average since the last time it was asked."""

    def __init__(self, stopwatch: Stopwatch, step: int):
        """Starts before a step."""
        self._stopwatch = stopwatch
        self._last = step, stopwatch.seconds

    def __call__(self, step: int) -> float:
        """Seconds a step up to the beginning of this one, which is a later one."""
        now = step, self._stopwatch.seconds
        (last_step, last_seconds), self._last = self._last, now
        return (now[1] - last_seconds) / (step - last_step)


def log_line(step: int, loss: float, batch_size: int, seconds: float) -> str:
    """The tutorial's line: seconds are those of one step."""
    now = datetime.datetime.now().isoformat(sep=" ", timespec="microseconds")
    return (
        f"{now}: step {step}, loss = {loss:.2f} "
        f"({batch_size / seconds:.1f} examples/sec; {seconds:.3f} sec/batch)"
    )


def _time_when_ready(results: PyTree) -> float:
    jax.block_until_ready(results)
    return time.perf_counter()
