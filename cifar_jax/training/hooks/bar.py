"""A progress bar on a terminal."""

import os
import sys

import numpy as np
from tqdm import tqdm

from cifar_jax import console
from cifar_jax.training.loop import Hook, Moment

# On a narrower terminal, the numbers leave no room for the bar.
_COLUMNS = 90


def fits() -> bool:
    """Returns whether the output is a terminal that is wide enough for a bar."""
    try:
        narrowest = min(
            os.get_terminal_size(stream.fileno()).columns
            for stream in (sys.stdout, sys.stderr)
        )
    except (OSError, ValueError, AttributeError):  # no terminal, closed, or a stand-in
        return False
    return narrowest >= _COLUMNS


class ProgressBar(Hook):
    """Shows loss, speed and remaining time on one line, with log lines above it."""

    def __init__(self, max_steps: int, batch_size: int):
        self._max_steps = max_steps
        self._batch_size = batch_size
        self._bar: tqdm | None = None
        self._seconds = 0.0

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def log(self, line: str) -> None:
        """Prints a line above the bar."""
        with tqdm.external_write_mode():
            console.log(line)

    def __call__(self, now: Moment) -> None:
        """Updates the bar."""
        if self._bar is None:
            # Created now so that the remaining time excludes compilation.
            self._bar = tqdm(
                total=self._max_steps,
                initial=now.first,
                unit="step",
                dynamic_ncols=True,
            )
        seconds = (now.seconds - self._seconds) / (now.step - now.first)
        self._seconds = now.seconds
        loss = float(np.asarray(now.metrics["total_loss"]))
        self._bar.set_postfix_str(
            f"loss = {loss:.2f}, {self._batch_size / seconds:.1f} examples/sec",
            refresh=False,
        )
        self._bar.update(now.step - self._bar.n)
