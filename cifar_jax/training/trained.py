"""Builds trained networks from states, runs, exports and Keras files."""

import functools
import math
import os
import pathlib

import jax
import numpy as np
from jaxtyping import PyTree

from cifar_jax import models
from cifar_jax.checks import (
    as_kind,
    check_integer,
    check_range,
)
from cifar_jax.config.config import Config
from cifar_jax.console import to_one_line
from cifar_jax.data import Dataset
from cifar_jax.data.normalization import Statistics
from cifar_jax.errors import UserError
from cifar_jax.evaluation.forward import eval_step
from cifar_jax.evaluation.inference import Trained
from cifar_jax.models import Network, safetensors_files, variables
from cifar_jax.models.keras import imagenet
from cifar_jax.models.safetensors_files import Contents
from cifar_jax.runs.run_dir import Run
from cifar_jax.training import program as programs
from cifar_jax.training import saved
from cifar_jax.training.program import Program
from cifar_jax.training.train_state import TrainState

# The bundled network; README.md next to it describes how it was trained.
PRETRAINED = pathlib.Path(__file__).parents[1] / "pretrained" / "airbench94.safetensors"
# Its `safetensors_files.digest`.
_PRETRAINED_DIGEST = "0818694f1f1cee8c35b00a13f58b291bc5f8a720863f134a1f885eba271633fc"
# The largest image height and width that a file from others may ask for.
_LARGEST_IMAGE = 4096
# Settings of a run that its exports record under the same names.
_RECORDED = ("model", "image_size", "normalization", "views")


def from_state(
    program: Program,
    state: TrainState,
    data: Dataset | Run,
    raw_params: bool = False,
) -> Trained:
    """Returns the network in a train state.

    Args:
        program: the program of the run.
        state: the state after some step.
        data: provides the class names, the image shape and the range of values.
        raw_params: whether to use the variables of that step instead of the averages.
    """
    return Trained(
        model=program.model,
        variables=eval_variables(program, state, raw_params),
        preprocessing=program.preprocessing,
        statistics=state.statistics,
        step=int(state.step),
        class_names=data.class_names,
        image_shape=data.image_shape,
        value_range=data.value_range,
    )


def eval_variables(
    program: Program, state: TrainState, raw_params: bool = False
) -> dict[str, PyTree]:
    """Returns the variables used to evaluate the network; see `from_state`."""
    if program.average.keeps and not raw_params:
        return state.averaged_variables
    params = program.optimizer.eval_params(state.opt_state, state.params)
    return state.variables | {"params": params}


def from_keras(model: str, path: str | os.PathLike[str]) -> Trained:
    """Loads a network trained in Keras, for images of ImageNet's size.

    Args:
        model: the name of a network in keras.applications.
        path: path of a .weights.h5, .h5 or .keras file with its weights.

    Raises:
        UserError: there is no such network, or the file cannot be read or belongs to
            another network.
    """
    inputs = imagenet.inputs(model)
    found = models.from_keras(path, model)
    count = variables.num_classes(found, models.create(model), os.fspath(path))
    network = models.create(model, num_classes=count)
    variables.check(found, network, inputs.size, os.fspath(path))
    preprocessing = Config(
        model=model,
        image_size=inputs.size,
        normalization=inputs.normalization,
        distortions="",
    ).preprocessing
    return Trained(
        model=network,
        variables=found,
        preprocessing=preprocessing,
        statistics=None,
        step=0,
        class_names=imagenet.class_names(count),
        image_shape=(inputs.size, inputs.size, 3),
    )


def read_export(path: str | os.PathLike[str]) -> Contents:
    """Reads a .safetensors file; PRETRAINED must be unchanged.

    Raises:
        UserError: see `safetensors_files.read`.
    """
    known = _PRETRAINED_DIGEST if path in (PRETRAINED, str(PRETRAINED)) else None
    return safetensors_files.read(path, known)


def from_export(path: str | os.PathLike[str] = PRETRAINED) -> Trained:
    """Loads the network in a .safetensors file from python -m cifar_jax.export.

    Args:
        path: path of the file, which need not be trusted; by default, the bundled
            network.

    Raises:
        UserError: the file cannot be read, or does not contain a complete network.
    """
    contents = read_export(path)
    try:
        network = _from_contents(contents)
        images = jax.ShapeDtypeStruct((1, *network.image_shape), np.uint8)
        whole = functools.partial(
            eval_step, model=network.model, preprocessing=network.preprocessing
        )
        jax.eval_shape(whole, network.variables, images, network.statistics)
    except KeyError as error:
        raise UserError(f"{path} does not specify its {error.args[0]}") from None
    # Networks and preprocessing that do not fit together may raise anything.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            to_one_line(f"{path} is not a complete network: {reason}"[:500])
        ) from error
    return network


def _from_contents(contents: Contents) -> Trained:
    """Returns the network in a file, after checking its variables."""
    description = contents.description
    config = Config(
        **{name: description[name] for name in _RECORDED},
        use_fp16=description["dtype"] == "bfloat16",
        distortions="",
    )
    class_names = tuple(description["class_names"])
    image_shape = tuple(description["image_shape"])
    check_range("image_shape", image_shape, at_least=1, at_most=_LARGEST_IMAGE)
    height, width, channels = image_shape
    model = programs.build(config, len(class_names)).model
    variables.check(contents.variables, model, config.image_size, "it")
    statistics = contents.statistics
    value_range = description.get("value_range")  # missing from earlier exports
    return Trained(
        model=model,
        variables=contents.variables,
        preprocessing=config.preprocessing,
        statistics=Statistics(**statistics) if statistics else None,
        step=check_integer(description["step"], "step", at_least=0),
        class_names=class_names,
        image_shape=(height, width, channels),
        value_range=None if value_range is None else _range(*value_range),
    )


def _range(low: float, high: float) -> tuple[float, float]:
    if not -math.inf < low < high < math.inf:
        raise UserError(f"its value_range is {low} to {high}, which is not a range")
    return float(low), float(high)


def load(
    run: Run,
    step: int | None = None,
    raw_params: bool = False,
    best: bool = False,
    model: Network | None = None,
) -> Trained:
    """Loads the network of a checkpoint.

    Args:
        run: the run, from `run_dir.read`.
        step: step of one of the run's checkpoints; None for the newest intact one.
        raw_params: whether to use the variables of that step instead of the averages.
        best: whether to use the checkpoint kept by --keep_best.
        model: the network, if one was passed to fit().

    Raises:
        UserError: an argument cannot be used; there is no such checkpoint, or none yet,
            or it contains non-finite values.
        RunError: the checkpoint is damaged or belongs to another network.
    """
    program = saved.program_of(run, model)
    try:
        raw_params = as_kind("raw_params", raw_params, bool)
    except ValueError as error:
        raise UserError(str(error)) from None
    state = saved.restore(run, program, step, best)
    network = from_state(program, state, run, raw_params)
    numbers = {**network.variables, "statistics": network.statistics}
    directory = run.best if best else run.checkpoints
    variables.check_finite(numbers, f"the checkpoint {directory / str(network.step)}")
    return network
