"""fit(): a training run, from its config to the trained network."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Sequence

import jax
from jax.sharding import Mesh

from cifar_jax import console
from cifar_jax.config.config import Config
from cifar_jax.data import Dataset
from cifar_jax.data.own_order import Order, OrderFunction
from cifar_jax.devices import compilation, processes, sharding
from cifar_jax.devices.strategies import STRATEGIES
from cifar_jax.evaluation.inference import Trained
from cifar_jax.models import Network
from cifar_jax.models.variables import Variables
from cifar_jax.runs import run_dir
from cifar_jax.runs.opening import open_run
from cifar_jax.training import beginning, ending, loop
from cifar_jax.training import program as programs
from cifar_jax.training.compiled import CompiledSteps
from cifar_jax.training.hooks import create_hooks, create_recorder
from cifar_jax.training.hooks.agreement import Agreement
from cifar_jax.training.hooks.evaluation import Evaluation
from cifar_jax.training.hooks.signals import MAX_STEPS_PER_CALL, Signals
from cifar_jax.training.initial import load_state, load_weights
from cifar_jax.training.interrupts import StopRequest
from cifar_jax.training.loop import Hook, Moment
from cifar_jax.training.program import Program
from cifar_jax.training.train_state import TrainState
from cifar_jax.training.trained import from_state
from cifar_jax.writers import Writers


@dataclasses.dataclass(frozen=True)
class FitResult:
    """The result of a training run.

    Attributes:
        state: the final state, which is saved if there is a train_dir.
        trained: the network in that state, with averaged variables.
        steps: number of steps taken, excluding those before the run was resumed.
        seconds: time these steps took, excluding compilation and hooks.
        precision: precision of `trained`, if it was evaluated; see `Evaluation`.
    """

    state: TrainState
    trained: Trained
    steps: int = 0
    seconds: float = 0.0
    precision: float | None = None


def fit(
    config: Config,
    dataset: Dataset,
    log: console.Log = console.log,
    hooks: Sequence[Hook] = (),
    model: Network | None = None,
    order: OrderFunction | None = None,
    initial: Variables | None = None,
) -> FitResult:
    """Trains until config.max_steps, from the newest checkpoint if there is one.

    The result is a function of config, data and devices: a run that is stopped and
    resumed any number of times ends with the same bits as an uninterrupted one. On
    other devices, sums may be rounded differently. Nothing is written if
    config.train_dir is None. All processes must call it with the same config and data.

    Args:
        config: what to train.
        dataset: the data.
        log: called with each log line.
        hooks: anything else to do around the steps.
        model: a network in place of the one named by the config; see `build`.
        order: returns the indices of a step's images; see `OwnOrder`.
        initial: the weights that a new run starts from, such as `Trained.variables`.

    Raises:
        UserError: config or data cannot be used, or do not match train_dir.
        RunError: training produced non-finite values, a file cannot be written, there
            is not enough memory, or another process was lost.
        Stopped: Ctrl-C or SIGTERM in the main thread; the state has been saved if there
            is a train_dir. It is a KeyboardInterrupt.
    """
    beginning.check_calls(hooks, log)
    config = beginning.check_config(config, dataset, log)
    own = beginning.check_order(order, config, dataset)
    compilation.enable()
    mesh = sharding.create_mesh(config.num_devices)
    sharding.check_batch_size(config.batch_size, mesh.size)
    program = programs.build(config, len(dataset.class_names), model)
    program = beginning.balance_losses(program, dataset)
    beginning.log_layer_rates(config, program, log)
    given = beginning.describe_given(program, model, initial, own)
    with contextlib.ExitStack() as stack:
        stack.enter_context(processes.lost_process_as_run_error())
        stack.enter_context(ending.explain_shortage(config))
        weights = load_weights(config, program, dataset, log, initial)
        found = stack.enter_context(open_run(config, dataset, given))
        images, run = dataset.train.images, found.run
        state = load_state(program, config.seed, images, weights, found, mesh)
        if run is not None and found.step is not None:
            log(f"resumed from step {found.step} of {run.path}")
        network = functools.partial(from_state, program, data=dataset)
        now = Moment.from_state(state, network)
        start = now.step
        directory = run.path if run is not None and processes.is_main() else None
        info = None if run is None else run.info(start)
        writers = Writers(config.writers, directory, info, log)
        last: list[Hook] = [*hooks]
        evaluation = None
        if config.eval_frequency:
            evaluation = Evaluation(config, program, dataset, run, start, writers, log)
            now.stopped = evaluation.why_stop()
            last.append(evaluation)
        if start < config.max_steps and now.stopped is None:
            processes.run_on_main(lambda: stack.enter_context(writers))
            name = config.model if model is None else type(model).__name__
            chosen = beginning.create_order(own, config, dataset, log)
            steps = _compile(config, program, dataset, state, mesh, name, log, chosen)
            if run is not None:
                processes.run_on_main(lambda: run_dir.write_config(run, dataset))
            first = create_hooks(config, program, steps, state, run, writers, log)
            with ending.explain_divergence(run), StopRequest() as request:
                now = loop.run(
                    steps,
                    now,
                    config.max_steps,
                    [*first, *last, Signals(request), Agreement()],
                    create_recorder(writers, log),
                )
    ending.say_why_it_ended(now, start, config.max_steps, run, log)
    return FitResult(
        state=now.state,
        trained=now.to_trained(),
        steps=now.step - start,
        seconds=now.seconds,
        precision=None if evaluation is None else evaluation.latest,
    )


def _compile(
    config: Config,
    program: Program,
    dataset: Dataset,
    state: TrainState,
    mesh: Mesh,
    name: str,
    log: console.Log,
    order: Order | None,
) -> CompiledSteps:
    """Compiles the steps, after logging that this takes a while."""
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    log(
        f"network {name} with {count:,} parameters, seed {config.seed}; "
        f"compiling for {sharding.describe(mesh, config.batch_size)}; this "
        "may take a minute; later starts are quick"
    )
    began = time.monotonic()
    steps = CompiledSteps(
        program,
        dataset.train,
        config.batch_size,
        state,
        min(config.log_frequency, MAX_STEPS_PER_CALL),
        STRATEGIES[config.data_parallel](mesh),
        will_inspect=config.train_dir is not None,
        drop_remainder=config.drop_remainder,
        stream=beginning.must_stream(config, dataset, mesh, log),
        order=order,
    )
    log(f"compiled in {time.monotonic() - began:.1f} s")
    if config.log_device_placement:
        for line in steps.placement(state).splitlines():
            log(line)
    return steps
