"""States on disk: those that runs saved, and those that a new run starts from."""

import dataclasses
import functools

import jax
import numpy as np

from cifar_jax import console, models
from cifar_jax.checks import as_kind, check_type
from cifar_jax.config.config import Config
from cifar_jax.data import Dataset
from cifar_jax.data.own_order import OrderFunction
from cifar_jax.errors import UserError
from cifar_jax.models import Network, variables
from cifar_jax.models.variables import Variables
from cifar_jax.runs import checkpoints, run_dir
from cifar_jax.runs.opening import open_run
from cifar_jax.runs.run_dir import Run
from cifar_jax.training import beginning, train_state
from cifar_jax.training import program as programs
from cifar_jax.training.program import Program
from cifar_jax.training.train_state import TrainState


def program_of(run: Run, model: Network | None = None) -> Program:
    """Returns the program of a run.

    Args:
        run: the run, from `run_dir.read`.
        model: the network, if one was passed to fit().

    Raises:
        UserError: that is not the network of the run.
    """
    check_type(run, "run", Run)
    program = programs.build(run.config, len(run.class_names), model)
    given = None if model is None else models.describe(program.model)
    if given != (found := run.given.network):
        named = "that of --model"
        raise UserError(
            f"the network of the run in {run.path} is {found or named}, not "
            f"{given or named}; pass the network that fit() was given as model=; to "
            "use commands, register it and train with --import"
        )
    return program


def load_state(
    run: Run,
    step: int | None = None,
    best: bool = False,
    model: Network | None = None,
) -> TrainState:
    """Loads the state in a checkpoint.

    Args:
        run: the run, from `read_run`.
        step: step of one of the run's checkpoints; None for the newest intact one.
        best: whether to use the checkpoint kept by --keep_best.
        model: the network, if one was passed to fit().

    Raises:
        UserError: an argument cannot be used, or there is no such checkpoint.
        RunError: the checkpoint is damaged or belongs to another network.
    """
    return restore(run, program_of(run, model), step, best)


def restore(run: Run, program: Program, step: int | None, best: bool) -> TrainState:
    """Loads the state in a checkpoint of a run with this program; see `load_state`."""
    try:
        step = as_kind("step", step, int | None)
        best = as_kind("best", best, bool)
    except ValueError as error:
        raise UserError(str(error)) from None
    directory = run.best if best else run.checkpoints
    if step is not None and step not in checkpoints.named_steps(directory):
        saved = checkpoints.steps(directory, run.id)
        raise UserError(
            f"there is no checkpoint of step {step!r} in {run.path}; available steps: "
            + (", ".join(map(str, saved)) or "none")
        )
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    any_images = np.zeros((1, *run.image_shape), np.uint8)
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        jax.eval_shape(
            lambda: train_state.create(program, jax.random.key(0), any_images)
        ),
    )
    if step is None:
        step = checkpoints.newest_step(directory, run.id)
    if step is None and best:
        raise UserError(
            f"no best checkpoint in {run.path}: train with --keep_best, "
            "--eval_frequency and --validation_size"
        )
    if step is None:
        raise UserError(
            f"no checkpoint in {run.path} yet: training saves one every "
            "--save_interval_secs and at the end"
        )
    state: TrainState = checkpoints.restore(directory, step, like, run.id)
    return state


def save_run(
    config: Config,
    dataset: Dataset,
    start: TrainState | Variables,
    model: Network | None = None,
    order: OrderFunction | None = None,
) -> Run:
    """Saves a state or weights as a new run, without training.

    All commands can use the run, and `fit` and `train` continue it.

    Args:
        config: the config of the run, with its `train_dir`.
        dataset: the data to train on.
        start: a state, from whose step training goes on, with the seed of the config;
            or weights, such as `Trained.variables`, to start from at step 0.
        model: a network in place of the one named by the config; see `build_program`.
        order: the order of the images that `fit` will be given, if any.

    Raises:
        UserError: an argument cannot be used; the state does not belong to the config,
            or contains non-finite values; or the train_dir holds a run.
        RunError: a file cannot be written.
    """
    if jax.process_count() > 1:
        raise UserError("save_run() works in one process, not in one of several")
    config = beginning.check_config(config, dataset, console.log)
    if config.train_dir is None:
        raise UserError("save_run() needs a config with a train_dir")
    taken = UserError(f"{config.train_dir} holds a run; choose another train_dir")
    if checkpoints.named_steps(run_dir.from_config(config, dataset).checkpoints):
        raise taken
    program = programs.build(config, len(dataset.class_names), model)
    program = beginning.balance_losses(program, dataset)
    own = beginning.check_order(order, config, dataset)
    create = functools.partial(
        train_state.create, program, jax.random.key(config.seed), dataset.train.images
    )
    if isinstance(start, TrainState):
        state = dataclasses.replace(start, key=jax.random.key(config.seed))
        _check_like(state, jax.eval_shape(create))
    else:
        variables.check(start, program.model, config.image_size, "start")
        state = create(start)
    for found in (state.variables, state.averaged_variables):
        variables.check_finite(found, "start")
    step = int(state.step)
    if step > config.max_steps:
        raise UserError(
            f"max_steps={config.max_steps} is below the step of start, {step}"
        )
    given = beginning.describe_given(program, model, state.variables, own)
    with open_run(config, dataset, given) as opened:
        if opened.step is not None:
            raise taken  # since another process has begun one
        assert opened.run is not None
        run_dir.write_config(opened.run, dataset)
        checkpoints.save(opened.run.checkpoints, step, state, opened.run.id)
        return opened.run


def _check_like(state: TrainState, expected: TrainState) -> None:
    """Raises UserError unless two states have arrays of the same names and shapes."""
    found, wanted = (
        {
            jax.tree_util.keystr(path, simple=True, separator="/"): (
                f"{leaf.dtype} {list(leaf.shape)}"
            )
            for path, leaf in jax.tree_util.tree_leaves_with_path(each)
        }
        for each in (state, expected)
    )
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise UserError(
                f"start is not a state of this config: {name} is "
                f"{found.get(name, 'missing')}, not {wanted.get(name, 'there')}"
            )
