"""Saves the state: by the clock, and in the end, whatever ended the run."""

import time

import jax

from cifar_jax.console import Log
from cifar_jax.devices import processes
from cifar_jax.errors import DivergedError
from cifar_jax.runs import checkpoints
from cifar_jax.runs.run_dir import Run
from cifar_jax.training.loop import Hook, Moment


class Checkpoints(Hook):
    """Saves the state every `interval_secs`, and the last one that it has seen.

    It comes before the hooks that may fail, and after the one that refuses numbers
    which are not finite: these are never saved.
    """

    def __init__(self, run: Run, interval_secs: float, log: Log):
        self._run = run
        self._interval_secs = interval_secs
        self._log = log
        self._saved_at = time.monotonic()
        self._unsaved: Moment | None = None

    def __call__(self, now: Moment) -> None:
        """Saves the state if it is time; the main process decides that."""
        self._unsaved = now
        due = time.monotonic() - self._saved_at >= self._interval_secs
        if processes.all_gather(due)[0, 0]:
            self._save()

    def __exit__(self, *error_: object) -> None:
        error = error_[1]
        if isinstance(error, DivergedError):
            return
        # One process that has failed cannot save alone, and the others do not know.
        if error is None or jax.process_count() == 1:
            self._save()

    def _save(self) -> None:
        now, self._unsaved = self._unsaved, None
        if now is None or any(leaf.is_deleted() for leaf in jax.tree.leaves(now.state)):
            return  # A call of the devices that fails may have used the state up.
        checkpoints.save(self._run.checkpoints, now.step, now.state)
        self._log(f"saved {self._run.checkpoints / str(now.step)}")
        self._saved_at = time.monotonic()
