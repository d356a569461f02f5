"""A trained network: all that evaluation and prediction need of a run."""

import dataclasses

import jax
import numpy as np
from jaxtyping import PyTree

from cifar_jax.checks import check_type
from cifar_jax.data import Dataset
from cifar_jax.data.inputs import Inputs, Statistics
from cifar_jax.errors import UserError
from cifar_jax.models import Network
from cifar_jax.optimization import optimizers as optimizer
from cifar_jax.runs import checkpoints
from cifar_jax.runs.run_dir import Run
from cifar_jax.training import program
from cifar_jax.training.program import Program
from cifar_jax.training.train_state import TrainState


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes:
        model: the network.
        variables: what it computes with, averaged over the training or as they were
            after the last step.
        inputs: what is done to images before the network sees them.
        statistics: of the training images, if inputs are normalised by them.
        step: how many steps it was trained for.
        class_names: of the labels, in their order.
        image_shape: height, width and channels of the images that it takes.
    """

    model: Network
    variables: PyTree
    inputs: Inputs
    statistics: Statistics | None
    step: int
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]


def of_state(
    parts: Program,
    state: TrainState,
    data: Dataset | Run,
    raw_params: bool = False,
) -> Trained:
    """The network as it is in the state of a training.

    Args:
        parts: of the training.
        state: after some step.
        data: whose class names and image shape are the network's.
        raw_params: those of that very step instead of the averaged ones.
    """
    variables = state.variables
    if not raw_params:
        variables = optimizer.averaged_variables(state.opt_state)
    return Trained(
        parts.model,
        variables,
        parts.inputs,
        state.statistics,
        int(state.step),
        data.class_names,
        data.image_shape,
    )


def load(run: Run, step: int | None = None, raw_params: bool = False) -> Trained:
    """The network saved at a step, or at the newest that can be read.

    Args:
        run: from `run_dir.read`.
        step: of a checkpoint of the run; None for the newest that is whole.
        raw_params: parameters of that very step instead of the averaged ones.

    Raises:
        UserError: there is no such checkpoint, or none yet.
        RunError: the checkpoint is damaged or of another network.
    """
    check_type(run, "run", Run)
    saved = checkpoints.steps(run.checkpoints)
    if step is not None and step not in saved:
        raise UserError(
            f"there is no checkpoint of step {step!r} in {run.path}; those that exist: "
            + (", ".join(map(str, saved)) or "none")
        )
    parts = program.build(run.config, len(run.class_names))
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    any_images = np.zeros((1, *run.image_shape), np.uint8)
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        jax.eval_shape(lambda: parts.create_state(jax.random.key(0), any_images)),
    )
    if step is None:
        step = checkpoints.newest(run.checkpoints)
    if step is None:
        raise UserError(
            f"no checkpoint in {run.path} yet: the training saves one every "
            "--save_interval_secs and at its end"
        )
    state = checkpoints.restore(run.checkpoints, step, like)
    return of_state(parts, state, run, raw_params)
