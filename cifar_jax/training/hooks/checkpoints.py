"""Saves the state periodically and at the end, however the run ends."""

import pathlib
import time

import jax

from cifar_jax.config.config import Config
from cifar_jax.console import Log
from cifar_jax.devices import processes
from cifar_jax.errors import DivergedError, RunError
from cifar_jax.runs import checkpoints, config_file
from cifar_jax.runs.files import write_atomically
from cifar_jax.runs.run_dir import Run
from cifar_jax.training.loop import Hook, Moment


class Checkpoints(Hook):
    """Saves the state by time and by steps, and the last one it has seen.

    It comes before the hooks that may fail, and after the one that rejects non-finite
    values, so these are never saved. If the folder is renamed or deleted, the run ends
    here, since anything it wrote from then on could not be resumed.
    """

    def __init__(self, run: Run, config: Config, log: Log):
        self._run = run
        self._interval_secs = config.save_interval_secs
        self._frequency = config.save_frequency
        self._kept = None if config.keep == "all" else config.keep
        self._log = log
        self._saved_at = time.monotonic()
        self._unsaved: Moment | None = None
        if processes.is_main():
            self._folder = _identity(run.path)
            self._config = (run.path / config_file.NAME).read_bytes()

    def due(self, step: int) -> int | None:
        """Returns the next step to save at; None if only time decides."""
        every = self._frequency
        return (step // every + 1) * every if every else None

    def __call__(self, now: Moment) -> None:
        """Saves the state if it is due, which the main process decides."""
        self._unsaved = now
        due = time.monotonic() - self._saved_at >= self._interval_secs
        due = due or now.step == self.due(now.step - 1)
        gone = processes.is_main() and _identity(self._run.path) != self._folder
        due, gone = processes.all_gather(due, gone)[0]
        if gone:
            self._save_anew()
        elif due:
            self._save()

    def __exit__(self, *details: object) -> None:
        error = details[1]
        if isinstance(error, DivergedError):
            return
        # A failed process cannot save alone, and the others do not know that it failed.
        if error is None or jax.process_count() == 1:
            self._save()

    def _save(self) -> None:
        now, self._unsaved = self._unsaved, None
        if now is None or any(leaf.is_deleted() for leaf in jax.tree.leaves(now.state)):
            return  # A failed device call may have consumed the state.
        checkpoints.save(
            self._run.checkpoints, now.step, now.state, self._run.id, self._kept
        )
        self._log(f"saved {self._run.checkpoints / str(now.step)}")
        self._saved_at = time.monotonic()

    def _save_anew(self) -> None:
        """Saves the state where the folder was, unless another run is there now."""
        now, self._unsaved = self._unsaved, None
        assert now is not None
        path = self._run.path
        lost = f"the folder {path} was renamed or deleted during training"

        def begin() -> None:
            if (path / config_file.NAME).exists():
                raise RunError(
                    f"{lost}, and another run is there now; progress since the last "
                    "checkpoint is lost; resume from the renamed folder"
                )
            path.mkdir(parents=True, exist_ok=True)
            write_atomically(path / config_file.NAME, self._config)

        processes.run_on_main(begin)
        checkpoints.save(self._run.checkpoints, now.step, now.state, self._run.id)
        raise RunError(
            f"{lost}; step {now.step} is saved in {self._run.checkpoints}, without "
            "earlier checkpoints and summaries; run the same command to continue"
        )


def _identity(path: pathlib.Path) -> tuple[int, int] | None:
    """Returns what distinguishes a folder from another one with the same name."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
