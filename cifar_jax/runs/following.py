"""Follows a run that is still training, checkpoint by checkpoint."""

import pathlib
import time
from collections.abc import Iterator

from cifar_jax.console import say
from cifar_jax.errors import UserError
from cifar_jax.runs import checkpoints, lock, run_dir
from cifar_jax.runs.run_dir import Run

_POLL_SECS = 1.0


def new_steps(run: Run, interval_secs: float) -> Iterator[tuple[Run, int]]:
    """Yields the step of each new checkpoint once, until training has finished.

    Each step comes with the run as it is at that moment: a run that has saved nothing
    may be replaced by a new one.

    If training stops before its last step, it may be restarted; this waits for one
    interval before giving up.
    """
    seen: set[int] = set()
    while True:
        # Checked before listing the checkpoints, so that the last one is not missed.
        at_work = lock.is_training(run.path)
        run = run_dir.read(run.path)
        saved = checkpoints.steps(run.checkpoints, run.id)
        new = [step for step in saved if step not in seen]
        seen.update(new)
        yield from ((run, step) for step in new)
        max_steps = run_dir.read(run.path).config.max_steps
        if max(seen, default=0) >= max_steps:
            say(f"training has finished at step {max_steps} (--max_steps)")
            return
        if at_work:
            _sleep_while_training(run.path, interval_secs)
        elif not new:
            say(
                f"no training is running in {run.path}, which has not reached step "
                f"{max_steps}; waiting {interval_secs:g} s for it to be restarted"
            )
            if not _training_starts_within(run.path, interval_secs):
                break
    reason = f"training in {run.path} was not restarted within {interval_secs:g} s"
    if not seen:
        raise UserError(f"{reason} and has saved no checkpoint")
    say(f"{reason}; its last checkpoint is at step {max(seen)}")


def _training_starts_within(directory: pathlib.Path, seconds: float) -> bool:
    """Waits for training to start in the directory; returns whether it did in time."""
    deadline = time.monotonic() + seconds
    while not (at_work := lock.is_training(directory)):
        if time.monotonic() >= deadline:
            break
        time.sleep(min(_POLL_SECS, seconds))
    return at_work


def _sleep_while_training(directory: pathlib.Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and lock.is_training(directory):
        time.sleep(min(_POLL_SECS, seconds))
