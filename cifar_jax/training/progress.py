"""Measures and shows the speed of training."""

import concurrent.futures
import datetime
import time

import jax
from jaxtyping import PyTree
from tqdm import tqdm


class Stopwatch:
    """Measures how long the device works, excluding skipped periods such as a save.

    The host may notice late that a call has ended, because it waits for the next one
    to be accepted; a thread notices at once. The clock is perf_counter because other
    clocks are too coarse on Windows: no call may appear to take no time.
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
        """Returns the future time at which the results of a call are ready."""
        return self._thread.submit(_time_when_ready, results)

    def count(self, ended: concurrent.futures.Future[float]) -> None:
        """Waits for the end of a call and adds the time up to it."""
        now = ended.result()
        self.seconds += now - self._since
        self._since = now

    def skip(self) -> None:
        """Excludes the time since the end of the last counted call."""
        self._since = time.perf_counter()


class Pace:
    """Measures the average seconds per step since the previous measurement."""

    def __init__(self, stopwatch: Stopwatch, step: int):
        """Starts measuring before the given step."""
        self._stopwatch = stopwatch
        self._last = step, stopwatch.seconds

    def __call__(self, step: int) -> float:
        """Returns the seconds per step up to the beginning of a later step."""
        now = step, self._stopwatch.seconds
        (last_step, last_seconds), self._last = self._last, now
        return (now[1] - last_seconds) / (step - last_step)


class ProgressBar:
    """Shows the progress of a training on a terminal, with messages above the bar."""

    def __init__(self, max_steps: int, batch_size: int):
        self._max_steps = max_steps
        self._batch_size = batch_size
        self._bar: tqdm | None = None

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def log(self, line: str) -> None:
        """Prints a message."""
        tqdm.write(line)

    def on_step(self, step: int, loss: float, seconds: float) -> None:
        """Shows the loss of a step and how many seconds one takes."""
        if self._bar is None:
            # Created now so that the time left does not count the compilation.
            self._bar = tqdm(
                total=self._max_steps, initial=step, unit="step", dynamic_ncols=True
            )
        self._bar.set_postfix_str(
            f"loss = {loss:.2f}, {self._batch_size / seconds:.1f} examples/sec",
            refresh=False,
        )
        self._bar.update(step + 1 - self._bar.n)


def log_line(step: int, loss: float, batch_size: int, seconds: float) -> str:
    """Returns the tutorial's log line; `seconds` is the time of one step."""
    now = datetime.datetime.now().isoformat(sep=" ", timespec="microseconds")
    return (
        f"{now}: step {step}, loss = {loss:.2f} "
        f"({batch_size / seconds:.1f} examples/sec; {seconds:.3f} sec/batch)"
    )


def _time_when_ready(results: PyTree) -> float:
    jax.block_until_ready(results)
    return time.perf_counter()
