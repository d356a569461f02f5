"""fit(): the training loop, and all that happens around the pure train step."""

import contextlib
import dataclasses
import datetime
import time
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array

from cifar_jax import checkpoints, parallel, program, run_dir
from cifar_jax.compiled import CompiledSteps
from cifar_jax.config import Config
from cifar_jax.data import Dataset
from cifar_jax.data_parallel import MODES, ByJit
from cifar_jax.errors import RunError, UserError
from cifar_jax.finite import (
    Guard,
    Losses,
    NotFiniteError,
    first_non_finite,
    snapshot,
)
from cifar_jax.interrupts import StopRequest
from cifar_jax.profiling import Trace
from cifar_jax.program import Program
from cifar_jax.run_dir import Run
from cifar_jax.steps import Inspection
from cifar_jax.summaries import BackgroundWriter, Writer
from cifar_jax.train_state import TrainState
from cifar_jax.trained import Trained, of_state

Log = Callable[[str], None]

# A call of the device takes at most so many steps and about so long: it cannot be
# interrupted, and a Ctrl-C should not wait.
_STEPS_A_CALL = 100
_SECONDS_A_CALL = 2.0


@dataclasses.dataclass(frozen=True)
class FitResult:
    """How a training ended.

    Attributes:
        state: the last one; it is saved if there is a train_dir.
        trained: the network as it then is, by its averaged variables.
        signum: of the signal that stopped it early, else None.
    """

    state: TrainState
    trained: Trained
    signum: int | None


def fit(config: Config, dataset: Dataset, log: Log = parallel.say) -> FitResult:
    """Trains until config.max_steps, from the newest checkpoint if there is one.

    The result is a function of config, data and devices: a run that was stopped and
    resumed any number of times ends in the same bits as one that never was; on other
    devices sums may be rounded otherwise. Nothing is written if config.train_dir is
    None. Of several processes each calls it, with the same config and data.

    Raises:
        UserError: config, data and what lies in train_dir do not go together.
        RunError: numbers are not finite any more, a file cannot be written, or another
            process has gone.
    """
    if config.batch_size > len(dataset.train):
        raise UserError(
            f"--batch_size={config.batch_size} is larger than the training set: "
            f"{dataset.name} has {len(dataset.train)} images to train on"
        )
    config = dataclasses.replace(config, dataset=dataset.name)
    way = MODES[config.data_parallel](parallel.mesh(config.num_devices))
    parallel.check_batch_size(config.batch_size, way.mesh.size)
    with contextlib.ExitStack() as stack:
        stack.enter_context(parallel.others_at_work())
        run = _claim(config, dataset, stack)
        parts = program.build(config, len(dataset.class_names))
        state = _start(config, parts, run, way, dataset, log)
        start = int(state.step)
        if start == config.max_steps:
            log(f"already at step {start}, which is --max_steps: nothing to do")
            trained = of_state(parts, state, dataset.class_names)
            return FitResult(state, trained, None)
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        log(
            f"network {config.model} with {count:,} parameters, seed {config.seed}; "
            f"compiling for {parallel.describe(way.mesh, config.batch_size)}"
        )
        began = time.monotonic()
        most = min(config.log_frequency, _STEPS_A_CALL)
        steps = CompiledSteps(parts, dataset.train, config.batch_size, state, most, way)
        log(f"compiled in {time.monotonic() - began:.1f} s")
        if config.log_device_placement:
            log(steps.placement(state))
        background = None
        if run is not None and parallel.is_first():
            writer = Writer(run.path, "train", resume_step=start)
            background = BackgroundWriter(stack.enter_context(writer))
            stack.enter_context(background)
        trace = None
        if config.profile and parallel.is_first():
            assert run is not None  # Config sees to it
            trace = stack.enter_context(Trace(run.path / "profile", log))
        stop = stack.enter_context(StopRequest())
        loop = _Loop(config, parts.schedule, steps, run, background, trace, stop, log)
        state, signum = loop.run(state)
        return FitResult(state, of_state(parts, state, dataset.class_names), signum)


def log_line(step: int, loss: float, batch_size: int, seconds: float) -> str:
    """The tutorial's line: seconds are those of one step."""
    now = datetime.datetime.now().isoformat(sep=" ", timespec="microseconds")
    return (
        f"{now}: step {step}, loss = {loss:.2f} "
        f"({batch_size / seconds:.1f} examples/sec; {seconds:.3f} sec/batch)"
    )


def _claim(config: Config, dataset: Dataset, stack: contextlib.ExitStack) -> Run | None:
    """The folder of the run, claimed by the first process for all of them."""
    parallel.check_same(run_dir.identity(config, dataset))
    if config.train_dir is None:
        return None
    claim = run_dir.claim(config.train_dir, config, dataset)
    run = parallel.in_first(lambda: stack.enter_context(claim))
    return run or run_dir.read(config.train_dir)


def _start(
    config: Config,
    parts: Program,
    run: Run | None,
    way: ByJit,
    dataset: Dataset,
    log: Log,
) -> TrainState:
    """The state to go on from: the newest whole checkpoint's, or a fresh one."""
    key, images = jax.random.key(config.seed), dataset.train.images
    state = way.create(lambda: parts.create_state(key, images))
    if run is None:
        return state
    newest = parallel.in_first(lambda: checkpoints.newest(run.checkpoints))
    step = parallel.agree(-1 if newest is None else newest)[0, 0]
    if step < 0:
        return state
    if step > config.max_steps:
        raise UserError(
            f"--max_steps={config.max_steps} is below step {step}, which the run in "
            f"{run.path} has reached; raise it, or choose another --train_dir"
        )
    state = checkpoints.restore(run.checkpoints, step, state)
    log(f"resumed from step {step} of {run.path}")
    return state


@dataclasses.dataclass(frozen=True)
class _Call:
    """The steps first .. end - 1, given to the device, and what will come of them."""

    first: int
    end: int
    losses: Losses
    after: tuple[TrainState, Array]
    inside: Inspection | None


@dataclasses.dataclass
class _Loop:
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
    log: Log

    def run(self, state: TrainState) -> tuple[TrainState, int | None]:
        """The state at max_steps, or when asked to stop, and by which signal."""
        config = self.config
        first = start = int(state.step)
        self._guard = Guard(state, self.steps.train_steps, self.steps.inspect)
        self._most = self._affordable = self.steps.most
        self._logged_step, self._logged_at = start - 1, time.monotonic()
        saved_at = time.monotonic()
        waiting: _Call | None = None
        while True:
            if self.trace is not None:
                self.trace.before_call(state)
            inside = self.steps.inspect(state, first) if self._summary(first) else None
            end = self._end_of_call(first)
            state, losses = self.steps.train_steps(state, first, end)
            call = _Call(first, end, losses, snapshot(state), inside)
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
                saved_at = time.monotonic()
            if ends:
                return state, signum
            first = end

    def _agree(self, due: bool) -> tuple[int | None, bool]:
        """What all processes do: end at a signal to any, save when the first is due.

        Also settles how many steps the next call takes.
        """
        asked = parallel.agree(self.stop.signum or 0, due, self._affordable)
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
        last = call.end - 1
        if call.inside is not None:
            self._summarize(call)
        if last % self.config.log_frequency == 0:
            now = time.monotonic()
            seconds = (now - self._logged_at) / (last - self._logged_step)
            self._logged_step, self._logged_at = last, now
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
        raw = {f"{name} (raw)": loss[-1] for name, loss in call.losses.items()}
        rate = {"learning_rate": self.schedule(call.first)}
        # Of this process alone, which looks at them when the others do not.
        self.summaries.write(
            call.first, *parallel.local((raw | smoothed | rate, call.inside))
        )

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
                    "the last good checkpoint is "
                    f"{self.on_disk.checkpoints / str(saved[-1])}"
                )
        return RunError(
            f"training diverged at step {error.step}, learning rate {rate:g}: "
            f"{error.where} are not finite; {kept}; try a lower --learning_rate in "
            "another --train_dir"
        )
