"""The training loop: calls of the device, and all that happens around them."""

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

# A call of the device takes at most so many steps and about so long: it cannot be
# interrupted, and a Ctrl-C should not wait.
MOST_STEPS_A_CALL = 100
_SECONDS_A_CALL = 2.0


@dataclasses.dataclass(frozen=True)
class _Call:
    """The steps first .. end - 1, given to the device, and what will come of them."""

    first: int
    end: int
    losses: Losses
    after: tuple[TrainState, Array]
    inside: Inspection | None
    ended: concurrent.futures.Future[float]


@dataclasses.dataclass
class Loop:
    """The steps of a run, with all that wants to hear of them.

    The device has its next steps before the host reads what came of the last ones,
    and summaries are made beside the steps.
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
        """The state at max_steps, or when asked to stop, and by which signal."""
        config = self.config
        first = start = int(state.step)
        self._guard = Guard(state, self.steps.train_steps, self.steps.inspect)
        self._most = self._affordable = self.steps.most
        self._pace_of_log = Pace(self.watch, start)
        self._pace_of_summaries = Pace(self.watch, start)
        self.watch.skip()
        saved_at = time.monotonic()
        waiting: _Call | None = None
        while True:
            if self.trace is not None:
                self.trace.before_call(state)
            inside = self.steps.inspect(state, first) if self._summary(first) else None
            end = self._end_of_call(first)
            state, losses = self.steps.train_steps(state, first, end)
            after = snapshot(state)
            ended = self.watch.watch((losses, after[1]))
            call = _Call(first, end, losses, after, inside, ended)
            if waiting is not None:
                self._settle(waiting)
            waiting = call
            if first == start or jax.process_count() > 1:
                # The first line says that the run lives; and to agree, all must wait.
                self._settle(waiting)
                waiting = None
            due = time.monotonic() - saved_at >= config.save_interval_secs
            # Once a round: a signal that comes later in it waits for the next.
            signum, due = self._agree(due)
            ends = end == config.max_steps or signum is not None
            save = ends or due
            if save and waiting is not None:
                # Nothing is saved unchecked.
                self._settle(waiting)
                waiting = None
            if save:
                self._save(state)
                self.watch.skip()
                saved_at = time.monotonic()
            if ends:
                return state, signum
            first = end

    def _agree(self, due: bool) -> tuple[int | None, bool]:
        """What all processes do: end at a signal to any, save when the first is due.

        Also settles how many steps the next call takes.
        """
        asked = processes.all_gather(self.stop.signum or 0, due, self._affordable)
        self._most = int(asked[0, 2])
        return int(asked[:, 0].max()) or None, bool(asked[0, 1])

    def _summary(self, step: int) -> bool:
        """Whether this step is summarised."""
        return self.on_disk is not None and step % self.config.summary_frequency == 0

    def _end_of_call(self, first: int) -> int:
        """Where a call that begins with this step must end.

        After a step that is logged, before one that is summarised, and soon enough
        to answer Ctrl-C; a step that is summarised makes a call of its own.
        """
        if self._summary(first):
            return first + 1
        end = min(first + self._most, self.config.max_steps)
        end = min(end, first + -first % self.config.log_frequency + 1)
        if self.on_disk is not None:
            end = min(end, first + -first % self.config.summary_frequency)
        return end

    def _settle(self, call: _Call) -> None:
        """Waits for a call, checks what came of it, and reports it."""
        try:
            if call.inside is not None and (where := first_non_finite(call.inside)):
                raise NotFiniteError(call.first, where)
            self._guard.check(call.after, call.losses)
        except NotFiniteError as error:
            raise self._failed(error) from None
        self.watch.count(call.ended)
        if call.inside is not None:
            self._summarize(call)
        last = call.end - 1
        if last % self.config.log_frequency == 0:
            seconds = self._pace_of_log(call.end)
            affordable = int(_SECONDS_A_CALL / seconds)
            self._affordable = max(1, min(self.steps.most, affordable))
            # By NumPy: an index of JAX's would queue up behind the next call.
            loss = np.asarray(call.losses["total_loss"])[-1]
            self.log(log_line(last, loss, self.config.batch_size, seconds))

    def _summarize(self, call: _Call) -> None:
        assert call.inside is not None
        if self.summaries is None:
            return
        smoothed = call.after[0].loss_averages
        raw = {f"{name}_raw": loss[-1] for name, loss in call.losses.items()}
        rate = {"learning_rate": self.schedule(call.first)}
        # Of this process alone, which looks at them when the others do not.
        scalars, inside = sharding.local((raw | smoothed | rate, call.inside))
        speed = {"global_step/sec": 1 / self._pace_of_summaries(call.end)}
        self.summaries.write(call.first, scalars | speed, inside)

    def _save(self, state: TrainState) -> None:
        if self.on_disk is None:
            return
        step = int(state.step)
        checkpoints.save(self.on_disk.checkpoints, step, state)
        self.log(f"saved {self.on_disk.checkpoints / str(step)}")

    def _failed(self, error: NotFiniteError) -> RunError:
        """The way out of numbers that are not finite; nothing of them is saved."""
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
