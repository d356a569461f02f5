"""fit(): a training run, from its config to the trained network."""

import contextlib
import dataclasses
import functools
import time

import jax
from jax.sharding import Mesh

from cifar_jax import console
from cifar_jax.checks import check_type
from cifar_jax.config.config import Config
from cifar_jax.data import Dataset
from cifar_jax.data.dataset import check_dataset
from cifar_jax.devices import processes, sharding
from cifar_jax.devices.strategies import STRATEGIES, Strategy
from cifar_jax.errors import Stopped, UserError
from cifar_jax.evaluation.inference import Trained
from cifar_jax.models.variables import Variables
from cifar_jax.runs import checkpoints, run_dir
from cifar_jax.runs.run_dir import Run
from cifar_jax.runs.summaries import Writer
from cifar_jax.training import initial, train_state
from cifar_jax.training import program as programs
from cifar_jax.training.compiled import CompiledSteps
from cifar_jax.training.digest import BackgroundWriter
from cifar_jax.training.evaluating import Evaluator
from cifar_jax.training.interrupts import StopRequest
from cifar_jax.training.loop import MAX_STEPS_PER_CALL, Log, Loop, OnStep
from cifar_jax.training.profiling import Trace
from cifar_jax.training.program import Program
from cifar_jax.training.progress import Stopwatch, log_line
from cifar_jax.training.train_state import TrainState
from cifar_jax.training.trained import of_state

# What the training images may fill of a device's memory.
_SHARE_OF_MEMORY = 0.25


@dataclasses.dataclass(frozen=True)
class FitResult:
    """The result of a training.

    Attributes:
        state: the last one; it is saved if there is a train_dir.
        trained: the network in that state, with averaged variables.
        steps: number of steps that were taken, without those before a resumption.
        seconds: that they took, without compilation, evaluations and checkpoints.
        precision: of that network, if it was evaluated; see `Evaluator`.
    """

    state: TrainState
    trained: Trained
    steps: int = 0
    seconds: float = 0.0
    precision: float | None = None


def fit(
    config: Config,
    dataset: Dataset,
    log: Log = console.log,
    on_step: OnStep | None = None,
) -> FitResult:
    """Trains until config.max_steps, from the newest checkpoint if there is one.

    The result is a function of config, data and devices: a run that was stopped and
    resumed any number of times ends in the same bits as one that was not; on other
    devices, sums may be rounded differently. Nothing is written if config.train_dir is
    None. Each process of a run calls it, with the same config and data.

    Args:
        config: what to train.
        dataset: the data.
        log: called with each line of the log.
        on_step: called every config.log_frequency steps; None logs the tutorial's line.

    Raises:
        UserError: config or data cannot be used, or do not match what is in train_dir.
        RunError: numbers are not finite any more, a file cannot be written, or another
            process is lost.
        Stopped: Ctrl-C or SIGTERM, in the main thread; the state has been saved if
            there is a train_dir. It is a KeyboardInterrupt.
    """
    config = _checked(config, dataset)
    size = min(dataset.image_shape[:2])
    if config.image_size > size:
        log(f"images of {size}x{size} are enlarged to --image_size={config.image_size}")
    strategy = STRATEGIES[config.data_parallel](
        sharding.create_mesh(config.num_devices)
    )
    sharding.check_batch_size(config.batch_size, strategy.mesh.size)
    with contextlib.ExitStack() as stack:
        stack.enter_context(processes.lost_process_as_run_error())
        program = programs.build(config, len(dataset.class_names))
        weights = _given_weights(config, program, dataset, log)
        run = _claim(config, dataset, stack)
        state = _start(config, program, run, strategy, dataset, weights, log)
        start = int(state.step)
        if start == config.max_steps:
            log(f"already at step {start}, which is --max_steps: nothing to do")
            return FitResult(state, of_state(program, state, dataset))
        evaluator = None
        if config.eval_frequency:
            evaluator = Evaluator(config, program, dataset, run, start, log)
            if evaluator.should_stop:
                log(f"stopped early at step {start}: {evaluator.why_stopped()}")
                return FitResult(state, of_state(program, state, dataset))
        steps = _compile(config, program, dataset, state, strategy, log)
        if run is not None:
            processes.run_on_main(lambda: run_dir.write_config(run, dataset))
        background, trace = None, None
        if run is not None and processes.is_main():
            writer = Writer(run.path, "train", resume_step=start)
            background = BackgroundWriter(stack.enter_context(writer))
            stack.enter_context(background)
            if config.profile:
                trace = stack.enter_context(Trace(run.path / "profile", log))
        stop = stack.enter_context(StopRequest())
        watch = stack.enter_context(Stopwatch())
        loop = Loop(
            config=config,
            schedule=program.schedule,
            steps=steps,
            evaluator=evaluator,
            on_disk=run,
            summaries=background,
            trace=trace,
            stop=stop,
            watch=watch,
            log=log,
            on_step=on_step or functools.partial(_log_step, config, log),
        )
        state, signum = loop.run(state)
    end = int(state.step)
    if signum is not None:
        raise Stopped(signum, f"before step {end}; {_kept(run, state)}")
    if evaluator is not None and end < config.max_steps:
        log(f"stopped early at step {end}: {evaluator.why_stopped()}")
    return FitResult(
        state=state,
        trained=of_state(program, state, dataset),
        steps=end - start,
        seconds=watch.seconds,
        precision=evaluator.latest if evaluator is not None else None,
    )


def _log_step(config: Config, log: Log, step: int, loss: float, seconds: float) -> None:
    log(log_line(step, loss, config.batch_size, seconds))


def _checked(config: Config, dataset: Dataset) -> Config:
    """Returns the config for this data set; raises UserError if they do not match."""
    check_type(config, "config", Config)
    check_dataset(dataset)
    config.preprocessing.check(dataset.image_shape)
    if config.batch_size > len(dataset.train):
        raise UserError(
            f"--batch_size={config.batch_size} is larger than the training set: "
            f"{dataset.name} has {len(dataset.train)} images to train on"
        )
    if config.validation_size not in (0, dataset.validation_size):
        raise UserError(
            f"--validation_size={config.validation_size}, but {dataset.name} holds out "
            f"{dataset.validation_size} training images; load the data with that "
            "validation_size, or leave the setting out"
        )
    if dataset.validation is None:
        for name in ("keep_best", "early_stopping"):
            if getattr(config, name):
                raise UserError(
                    f"--{name} chooses by validation images, and none are held out; "
                    "give --validation_size=5000, for example: who chooses by the test "
                    "images overestimates the precision"
                )
    return dataclasses.replace(
        config, dataset=dataset.name, validation_size=dataset.validation_size
    )


def _kept(run: Run | None, state: TrainState) -> str:
    if run is None:
        return "nothing is kept without a train_dir"
    return (
        f"saved {run.checkpoints / str(int(state.step))}; run the same command to "
        "continue from it"
    )


def _claim(config: Config, dataset: Dataset, stack: contextlib.ExitStack) -> Run | None:
    """Returns the run on disk, claimed by the main process for all of them."""
    processes.check_same(run_dir.identity(config, dataset))
    if config.train_dir is None:
        return None
    run = run_dir.of(config, dataset)
    processes.run_on_main(lambda: stack.enter_context(run_dir.claim(run)))
    return run


def _given_weights(
    config: Config, program: Program, dataset: Dataset, log: Log
) -> Variables | None:
    """Returns the weights of --init_from; None if a run is to be resumed instead."""
    if config.init_from is None:
        return None
    on_disk = config.train_dir is not None
    if on_disk and checkpoints.steps(run_dir.of(config, dataset).checkpoints):
        return None
    start = initial.load(config.init_from, config, program.model, dataset.class_names)
    new = f"; new are the layers {', '.join(start.new)}" if start.new else ""
    log(f"starting from the weights of {config.init_from}{new}")
    return start.variables


def _compile(
    config: Config,
    program: Program,
    dataset: Dataset,
    state: TrainState,
    strategy: Strategy,
    log: Log,
) -> CompiledSteps:
    """Compiles the steps, and logs that this takes a while."""
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    log(
        f"network {config.model} with {count:,} parameters, seed {config.seed}; "
        f"compiling for {sharding.describe(strategy.mesh, config.batch_size)}; this "
        "may take a minute, later starts are quick"
    )
    began = time.monotonic()
    max_steps_per_call = min(config.log_frequency, MAX_STEPS_PER_CALL)
    steps = CompiledSteps(
        program,
        dataset.train,
        config.batch_size,
        state,
        max_steps_per_call,
        strategy,
        will_inspect=config.train_dir is not None,
        drop_remainder=config.drop_remainder,
        stream=_streams(config, dataset, strategy.mesh, log),
    )
    log(f"compiled in {time.monotonic() - began:.1f} s")
    if config.log_device_placement:
        log(steps.placement(state))
    return steps


def _streams(config: Config, dataset: Dataset, mesh: Mesh, log: Log) -> bool:
    """Whether images are sent batch by batch, not all at the start."""
    size, room = len(dataset.train) * dataset.train.row_bytes, sharding.memory(mesh)
    if config.stream is None and room is not None and size > _SHARE_OF_MEMORY * room:
        log(
            f"the training images, {size / 1e9:.1f} GB, are read batch by batch "
            f"(--stream), as they are too large for {room / 1e9:.1f} GB of memory"
        )
        return True
    return bool(config.stream)


def _start(
    config: Config,
    program: Program,
    run: Run | None,
    strategy: Strategy,
    dataset: Dataset,
    weights: Variables | None,
    log: Log,
) -> TrainState:
    """Returns the state of the newest whole checkpoint, or the initial one."""
    key, images = jax.random.key(config.seed), dataset.train.images
    state = sharding.create_replicated(
        strategy.mesh,
        lambda variables: train_state.create(program, key, images, variables),
        weights,
    )
    if run is None:
        return state
    newest = processes.run_on_main(lambda: checkpoints.newest(run.checkpoints))
    step = int(processes.all_gather(-1 if newest is None else newest)[0, 0])
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
