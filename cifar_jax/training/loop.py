"""The training loop: device calls, and everything that happens around them."""

import concurrent.futures
import dataclasses
import time
from collections.abc import Callable

import numpy as np
from jaxtyping import Array

from cifar_jax.config.config import Config
from cifar_jax.devices import processes, sharding
from cifar_jax.errors import DivergedError
from cifar_jax.runs import checkpoints
from cifar_jax.runs.run_dir import Run
from cifar_jax.training.compiled import CompiledSteps
from cifar_jax.training.digest import BackgroundWriter
from cifar_jax.training.evaluating import Evaluator
from cifar_jax.training.finite import explain, is_finite
from cifar_jax.training.interrupts import StopRequest
from cifar_jax.training.profiling import Trace
from cifar_jax.training.progress import Pace, Stopwatch
from cifar_jax.training.steps import Losses
from cifar_jax.training.train_state import TrainState

Log = Callable[[str], None]
# Called with the step, its loss, and the seconds of one step.
OnStep = Callable[[int, float, float], None]

# Limits on the steps and the approximate duration of one device call: it cannot be
# interrupted, and Ctrl-C should not have to wait.
MAX_STEPS_PER_CALL = 100
_SECONDS_PER_CALL = 2.0


@dataclasses.dataclass(frozen=True)
class _Call:
    """The results of a device call for the steps from `first` to `end`."""

    first: int
    end: int
    losses: Losses
    ended_at: concurrent.futures.Future[float]


@dataclasses.dataclass
class Loop:
    """Takes the steps of a run, and logs, summarizes and saves their results.

    Results are reported while the device computes the next ones, and summaries are
    written in the background. Every state is checked before it is used, and nothing
    but the state before and the one after a call is kept.
    """

    config: Config
    schedule: Callable[[int], Array]
    steps: CompiledSteps
    evaluator: Evaluator | None
    on_disk: Run | None
    summaries: BackgroundWriter | None
    trace: Trace | None
    stop: StopRequest
    watch: Stopwatch
    log: Log
    on_step: OnStep

    def run(self, state: TrainState) -> tuple[TrainState, int | None]:
        """Trains until max_steps or early stopping, or until a signal asks to stop.

        Returns:
            The state at the end, and the signal that asked to stop, or None.

        Raises:
            RunError: training diverged, or a file cannot be written.
        """
        config = self.config
        first = start = int(state.step)
        self._steps_per_call = self._affordable_steps = self.steps.max_steps_per_call
        self._log_pace = Pace(self.watch, start)
        self._summary_pace = Pace(self.watch, start)
        self.watch.skip()
        saved_at = time.monotonic()
        pending: _Call | None = None
        while True:
            if self.trace is not None:
                self.trace.before_call(state)
            end = self._call_end(first)
            after, losses = self.steps.train_steps(state, first, end)
            finite = is_finite((after, losses))
            ended_at = self.watch.watch(finite)
            if pending is not None:
                self._report(pending)
            if not finite:
                raise self._divergence_error(state, end)
            pending = _Call(first, end, losses, ended_at)
            if first == start or self._is_summarized(first):
                # The first log line should appear at once, to show that the run works.
                self._report(pending)
                pending = None
            if self._is_summarized(first):
                self._summarize(state, after.loss_averages, losses)
                if first == start:
                    # The inspection may still have been compiled.
                    self.watch.skip()
            state = after
            stops = False
            if self.evaluator is not None and end == self.evaluator.next_after(first):
                if pending is not None:
                    self._report(pending)
                    pending = None
                self.evaluator(state)
                self.watch.skip()
                stops = self.evaluator.should_stop
            due = time.monotonic() - saved_at >= config.save_interval_secs
            # Once per iteration: a signal that arrives later is handled in the next.
            signum, due = self._agree(due)
            finished = end == config.max_steps or stops or signum is not None
            save = finished or due
            if save and pending is not None:
                self._report(pending)
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

        A call ends after a logged step, before an evaluation and a summarized step, and
        soon enough to respond to Ctrl-C; a summarized step is a call of its own.
        """
        if self._is_summarized(first):
            return first + 1
        end = min(first + self._steps_per_call, self.config.max_steps)
        end = min(end, first + -first % self.config.log_frequency + 1)
        if self.evaluator is not None:
            end = min(end, self.evaluator.next_after(first))
        if self.on_disk is not None:
            end = min(end, first + -first % self.config.summary_frequency)
        return end

    def _report(self, call: _Call) -> None:
        """Logs the last step of a call that has ended, if it is to be logged."""
        self.watch.count(call.ended_at)
        last = call.end - 1
        if last % self.config.log_frequency == 0:
            seconds = self._log_pace(call.end)
            affordable = int(_SECONDS_PER_CALL / seconds)
            self._affordable_steps = max(
                1, min(self.steps.max_steps_per_call, affordable)
            )
            # Indexed with NumPy: JAX's indexing would queue up behind the next call.
            loss = float(np.asarray(call.losses["total_loss"])[last - call.first])
            self.on_step(last, loss, seconds)

    def _summarize(
        self, state: TrainState, loss_averages: Losses, losses: Losses
    ) -> None:
        """Writes the summaries of the step that this state is before."""
        step = int(state.step)
        inspection = self.steps.inspect(state, step)
        if not inspection.finite:
            raise self._divergence_error(state, step + 1)
        if self.summaries is None:
            return
        raw = {f"{name}_raw": loss[0] for name, loss in losses.items()}
        rate = {"learning_rate": self.schedule(step)}
        # This process's own copies: it reads them, and the other processes do not.
        values = raw | loss_averages | rate
        scalars, inspection = sharding.local((values, inspection))
        speed = {"global_step/sec": 1 / self._summary_pace(step + 1)}
        self.summaries.write(step, scalars | speed, inspection)

    def _save(self, state: TrainState) -> None:
        if self.on_disk is None:
            return
        step = int(state.step)
        checkpoints.save(self.on_disk.checkpoints, step, state)
        self.log(f"saved {self.on_disk.checkpoints / str(step)}")

    def _divergence_error(self, state: TrainState, end: int) -> DivergedError:
        """Returns the error for steps after this state, none of which is saved."""
        found = explain(state, end, self.steps.train_steps, self.steps.inspect)
        rate = float(self.schedule(found.step))
        kept = "nothing was saved yet"
        if self.on_disk is not None:
            saved = checkpoints.steps(self.on_disk.checkpoints)
            if saved:
                kept = (
                    "the last checkpoint is "
                    f"{self.on_disk.checkpoints / str(saved[-1])}"
                )
        return DivergedError(
            f"training diverged at step {found.step}, learning rate {rate:g}: "
            f"{found.where} are not finite; {kept}; try a lower --learning_rate in "
            "another --train_dir"
        )
