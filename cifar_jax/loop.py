"""fit(): the training loop, and all that happens around the pure train step."""

import contextlib
import dataclasses
import datetime
import time
from collections.abc import Callable

import jax

from cifar_jax import checkpoints, program, run_dir, summaries
from cifar_jax.compiled import CompiledSteps
from cifar_jax.config import Config
from cifar_jax.data import Dataset
from cifar_jax.errors import RunError, UserError
from cifar_jax.finite import Guard, Losses, NotFiniteError, first_non_finite
from cifar_jax.interrupts import StopRequest
from cifar_jax.program import Program
from cifar_jax.run_dir import Run
from cifar_jax.train_state import TrainState

Log = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class FitResult:
    """How a training ended.

    Attributes:
        state: the last one; it is saved if there is a train_dir.
        signum: of the signal that stopped it early, else None.
    """

    state: TrainState
    signum: int | None


def say(line: str) -> None:
    """Prints a line at once, so that a pipe or a log file follows the run."""
    print(line, flush=True)


def fit(config: Config, dataset: Dataset, log: Log = say) -> FitResult:
    """Trains until config.max_steps, from the newest checkpoint if there is one.

    The result is a function of config and data: a run that was stopped and resumed
    any number of times ends in the same bits as one that never was. Nothing is
    written if config.train_dir is None.

    Raises:
        UserError: config, data and what lies in train_dir do not go together.
        RunError: numbers are not finite any more, or a file cannot be written.
    """
    if config.batch_size > len(dataset.train):
        raise UserError(
            f"--batch_size={config.batch_size} is larger than the training set: "
            f"{dataset.name} has {len(dataset.train)} images to train on"
        )
    config = dataclasses.replace(config, dataset=dataset.name)
    with contextlib.ExitStack() as stack:
        run = None
        if config.train_dir is not None:
            run = stack.enter_context(run_dir.claim(config.train_dir, config, dataset))
        parts = program.build(config, len(dataset.class_names))
        state = _start(config, parts, run, log)
        start = int(state.step)
        if start == config.max_steps:
            log(f"already at step {start}, which is --max_steps: nothing to do")
            return FitResult(state, None)
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        log(
            f"network {config.model} with {count:,} parameters, batch size "
            f"{config.batch_size}, seed {config.seed}; compiling for "
            f"{jax.devices()[0].device_kind}"
        )
        began = time.monotonic()
        steps = CompiledSteps(parts, dataset.train, config.batch_size, state)
        log(f"compiled in {time.monotonic() - began:.1f} s")
        if config.log_device_placement:
            log(steps.placement(state))
        writer = None
        if run is not None:
            writer = summaries.Writer(run.path, "train", resume_step=start)
            stack.enter_context(writer)
        stop = stack.enter_context(StopRequest())
        return _Loop(config, parts, steps, run, writer, stop, log).run(state)


def log_line(step: int, loss: float, batch_size: int, seconds: float) -> str:
    """The tutorial's line: seconds are those of one step."""
    now = datetime.datetime.now().isoformat(sep=" ", timespec="microseconds")
    return (
        f"{now}: step {step}, loss = {loss:.2f} "
        f"({batch_size / seconds:.1f} examples/sec; {seconds:.3f} sec/batch)"
    )


def _start(config: Config, parts: Program, run: Run | None, log: Log) -> TrainState:
    """The state to go on from: the newest whole checkpoint's, or a fresh one."""
    state = parts.create_state(jax.random.key(config.seed))
    if run is None:
        return state
    restored = checkpoints.restore_latest(run.checkpoints, state)
    if restored is None:
        return state
    step = int(restored.step)
    if step > config.max_steps:
        raise UserError(
            f"--max_steps={config.max_steps} is below step {step}, which the run in "
            f"{run.path} has reached; raise it, or choose another --train_dir"
        )
    log(f"resumed from step {step} of {run.path}")
    return restored


@dataclasses.dataclass
class _Loop:
    """The steps of a run, with all that wants to hear of them."""

    config: Config
    parts: Program
    steps: CompiledSteps
    on_disk: Run | None
    writer: summaries.Writer | None
    stop: StopRequest
    log: Log

    def run(self, state: TrainState) -> FitResult:
        """Steps from the state to max_steps, or until asked to stop."""
        config = self.config
        guard = Guard(state, self.steps.train_step, self.steps.inspect)
        unchecked: list[Losses] = []
        saved_at = logged_at = time.monotonic()
        logged_step = int(state.step) - 1
        for step in range(int(state.step), config.max_steps):
            inside = self._look_inside(state, step)
            state, losses = self.steps.train_step(state, step)
            unchecked.append(losses)
            log_now = step % config.log_frequency == 0
            # Read once: a signal that comes later in this round waits for the next.
            signum = self.stop.signum
            ends = step + 1 == config.max_steps or signum is not None
            if not (log_now or inside or ends):
                continue
            try:
                guard.check(state, unchecked)
            except NotFiniteError as error:
                raise self._failed(error) from None
            unchecked.clear()
            if inside:
                self._summarize(state, step, losses, inside)
            if log_now:
                now = time.monotonic()
                seconds = (now - logged_at) / (step - logged_step)
                loss = float(losses["total_loss"])
                self.log(log_line(step, loss, config.batch_size, seconds))
                logged_at, logged_step = now, step
            if ends or time.monotonic() - saved_at >= config.save_interval_secs:
                self._save(state)
                saved_at = time.monotonic()
            if signum is not None:
                return FitResult(state, signum)
        return FitResult(state, None)

    def _look_inside(self, state: TrainState, step: int) -> summaries.Digest | None:
        if self.writer is None or step % self.config.summary_frequency != 0:
            return None
        inside = self.steps.inspect(state, step)
        if where := first_non_finite(inside):
            raise self._failed(NotFiniteError(step, where))
        return summaries.digest(inside)

    def _summarize(
        self, state: TrainState, step: int, losses: Losses, inside: summaries.Digest
    ) -> None:
        assert self.writer is not None
        raw = {f"{name} (raw)": float(loss) for name, loss in losses.items()}
        smoothed = {name: float(loss) for name, loss in state.loss_averages.items()}
        rate = {"learning_rate": float(self.parts.schedule(step))}
        self.writer.write(step, raw | smoothed | rate, inside)

    def _save(self, state: TrainState) -> None:
        if self.on_disk is None:
            return
        step = int(state.step)
        checkpoints.save(self.on_disk.checkpoints, step, state)
        self.log(f"saved {self.on_disk.checkpoints / str(step)}")

    def _failed(self, error: NotFiniteError) -> RunError:
        """The way out of numbers that are not finite; nothing of them is saved."""
        rate = float(self.parts.schedule(error.step))
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
