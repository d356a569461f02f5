"""The training loop: device calls, and everything that happens around them."""

import concurrent.futures
import dataclasses
import time
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array

from cifar_jax.config.config import Config
from cifar_jax.devices import processes, sharding
from cifar_jax.errors import RunError
from cifar_jax.runs import checkpoints
from cifar_jax.runs.run_dir import Run
from cifar_jax.training.compiled import CompiledSteps
from cifar_jax.training.digest import BackgroundWriter
from cifar_jax.training.finite import (
    Guard,
    Losses,
    NotFiniteError,
    first_non_finite,
    snapshot,
)
from cifar_jax.training.interrupts import StopRequest
from cifar_jax.training.profiling import Trace
from cifar_jax.training.progress import Pace, Stopwatch, log_line
from cifar_jax.training.steps import Inspection
from cifar_jax.training.train_state import TrainState

Log = Callable[[str], None]

# Limits on the steps and the approximate duration of one device call: it cannot be
# interrupted, and Ctrl-C should not have to wait.
MAX_STEPS_PER_CALL = 100
_SECONDS_PER_CALL = 2.0


@dataclasses.dataclass(frozen=True)
class _Call:
    """The steps first, ..., end - 1, as one device call, and their future results."""

    first: int
    end: int
    losses: Losses
    after: tuple[TrainState, Array]
    inspection: Inspection | None
    ended_at: concurrent.futures.Future[float]


@dataclasses.dataclass
class Loop:
    """Takes the steps of a run, and logs, summarizes and saves their results.

    The device is given its next steps before the host reads the results of the
    previous ones, and summaries are written in the background.
    """

    config: Config
    schedule: Callable[[int], Array]
    steps: CompiledSteps
    on_disk: Run | None
    summaries: BackgroundWriter | None
    trace: Trace | None
    stop: StopRequest
    watch: Stopwatch
    log: Log

    def run(self, state: TrainState) -> tuple[TrainState, int | None]:
        """Trains until max_steps, or until a signal asks to stop.

        Returns:
            The state at the end, and the signal that asked to stop, or None.

        Raises:
            RunError: training diverged, or a file cannot be written.
        """
        config = self.config
        first = start = int(state.step)
        self._guard = Guard(state, self.steps.train_steps, self.steps.inspect)
        self._steps_per_call = self._affordable_steps = self.steps.max_steps_per_call
        self._log_pace = Pace(self.watch, start)
        self._summary_pace = Pace(self.watch, start)
        self.watch.skip()
        saved_at = time.monotonic()
        pending: _Call | None = None
        while True:
            if self.trace is not None:
                self.trace.before_call(state)
            inspection = (
                self.steps.inspect(state, first) if self._is_summarized(first) else None
            )
            end = self._call_end(first)
            state, losses = self.steps.train_steps(state, first, end)
            after = snapshot(state)
            ended_at = self.watch.watch((losses, after[1]))
            call = _Call(first, end, losses, after, inspection, ended_at)
            if pending is not None:
                self._finish(pending)
            pending = call
            if first == start or jax.process_count() > 1:
                # The first log line should appear at once, to show that the run works.
                # Several processes must all have waited before they can agree.
                self._finish(pending)
                pending = None
            due = time.monotonic() - saved_at >= config.save_interval_secs
            # Once per iteration: a signal that arrives later is handled in the next.
            signum, due = self._agree(due)
            finished = end == config.max_steps or signum is not None
            save = finished or due
            if save and pending is not None:
                # Every state is checked before it is saved.
                self._finish(pending)
                pending = None
            if save:
                self._save(state)
                self.watch.skip()
                saved_at = time.monotonic()
            if finished:
                return state, signum
            first = end

    def _agree(self, due: bool) -> tuple[int | None, bool]:
        """Makes all processes agree on stopping, saving and the next call's length.

        They stop if any of them has received a signal; the main process decides
        whether a save is due and how many steps the next call takes.

        Returns:
            The signal to stop for, or None, and whether to save.
        """
        gathered = processes.all_gather(
            self.stop.signum or 0, due, self._affordable_steps
        )
        self._steps_per_call = int(gathered[0, 2])
        return int(gathered[:, 0].max()) or None, bool(gathered[0, 1])

    def _is_summarized(self, step: int) -> bool:
        """Whether summaries of this step are written."""
        return self.on_disk is not None and step % self.config.summary_frequency == 0

    def _call_end(self, first: int) -> int:
        """Returns the step before which a call that begins with `first` must end.

        A call ends after a logged step, before a summarized step, and soon enough to
        respond to Ctrl-C; a summarized step is a call of its own.
        """
        if self._is_summarized(first):
            return first + 1
        end = min(first + self._steps_per_call, self.config.max_steps)
        end = min(end, first + -first % self.config.log_frequency + 1)
        if self.on_disk is not None:
            end = min(end, first + -first % self.config.summary_frequency)
        return end

    def _finish(self, call: _Call) -> None:
        """Waits for a call, checks its results, and reports them."""
        try:
            if call.inspection is not None and (
                where := first_non_finite(call.inspection)
            ):
                raise NotFiniteError(call.first, where)
            self._guard.check(call.after, call.losses)
        except NotFiniteError as error:
            raise self._divergence_error(error) from None
        self.watch.count(call.ended_at)
        if call.inspection is not None:
            self._summarize(call)
        last = call.end - 1
        if last % self.config.log_frequency == 0:
            seconds = self._log_pace(call.end)
            affordable = int(_SECONDS_PER_CALL / seconds)
            self._affordable_steps = max(
                1, min(self.steps.max_steps_per_call, affordable)
            )
            # Indexed with NumPy: JAX's indexing would queue up behind the next call.
            loss = float(np.asarray(call.losses["total_loss"])[-1])
            self.log(log_line(last, loss, self.config.batch_size, seconds))

    def _summarize(self, call: _Call) -> None:
        assert call.inspection is not None
        if self.summaries is None:
            return
        smoothed = call.after[0].loss_averages
        raw = {f"{name}_raw": loss[-1] for name, loss in call.losses.items()}
        rate = {"learning_rate": self.schedule(call.first)}
        # This process's own copies: it reads them, and the other processes do not.
        scalars, inspection = sharding.local((raw | smoothed | rate, call.inspection))
        speed = {"global_step/sec": 1 / self._summary_pace(call.end)}
        self.summaries.write(call.first, scalars | speed, inspection)

    def _save(self, state: TrainState) -> None:
        if self.on_disk is None:
            return
        step = int(state.step)
        checkpoints.save(self.on_disk.checkpoints, step, state)
        self.log(f"saved {self.on_disk.checkpoints / str(step)}")

    def _divergence_error(self, error: NotFiniteError) -> RunError:
        """Returns the error for numbers that are not finite, none of which is saved."""
        rate = float(self.schedule(error.step))
        kept = "nothing was saved yet"
        if self.on_disk is not None:
            saved = checkpoints.steps(self.on_disk.checkpoints)
            if saved:
                kept = (
                    "the last checkpoint is "
                    f"{self.on_disk.checkpoints / str(saved[-1])}"
                )
        return RunError(
            f"training diverged at step {error.step}, learning rate {rate:g}: "
            f"{error.where} are not finite; {kept}; try a lower --learning_rate in "
            "another --train_dir"
        )
