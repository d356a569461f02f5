"""The initial state of a training run."""

import functools
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree, UInt8

from cifar_jax import models
from cifar_jax.config.config import Config
from cifar_jax.console import Log
from cifar_jax.data import Dataset
from cifar_jax.errors import UserError
from cifar_jax.models import Network, safetensors_files, variables
from cifar_jax.models.keras import weights as keras_weights
from cifar_jax.models.pytorch import files as pytorch_files
from cifar_jax.models.variables import Variables
from cifar_jax.runs import checkpoints, run_dir
from cifar_jax.runs.opening import Opened
from cifar_jax.training import train_state, trained
from cifar_jax.training.program import Program
from cifar_jax.training.train_state import TrainState

# The name of the bundled network in --init_from.
_PRETRAINED = "pretrained"
# The settings that a network's inputs depend on.
_INPUTS = ("image_size", "normalization")


def load_weights(
    config: Config,
    program: Program,
    dataset: Dataset,
    log: Log,
    given: Variables | None = None,
) -> Variables | None:
    """Returns the weights of a new run, or None for random ones or to resume a run.

    Args:
        config: the config of the run, whose --init_from may name weights.
        program: its program.
        dataset: its data.
        log: called with a line on where the weights are from.
        given: weights in place of those.

    Raises:
        UserError: the weights cannot be used.
        RunError: they are in a damaged checkpoint.
    """
    if config.init_from is None and given is None:
        return None
    if config.init_from is not None and given is not None:
        raise UserError("initial= replaces --init_from; leave one of them out")
    if given is not None:
        variables.check(given, program.model, config.image_size, "initial")
    on_disk = config.train_dir is not None
    if on_disk and checkpoints.named_steps(
        run_dir.from_config(config, dataset).checkpoints
    ):
        return None
    if given is not None:
        log("starting from the weights in initial=")
        return given
    assert config.init_from is not None
    found = load(config.init_from, config, program.model, dataset.class_names)
    source = config.init_from
    if source == _PRETRAINED:
        source = f"the bundled network, {trained.PRETRAINED.stem}"
    parts = [f"starting from the weights of {source}"]
    if found.new:
        parts.append(f"new layers: {', '.join(found.new)}")
    if found.left_out:
        parts.append(f"layers left out: {', '.join(found.left_out)}")
    log("; ".join(parts))
    for name, value in found.inputs.items():
        if (own := getattr(config, name)) != value:
            log(
                f"note: the weights were trained with --{name}={value}, but this run "
                f"has --{name}={own}"
            )
    return found.variables


def load_state(
    program: Program,
    seed: int,
    images: UInt8[Any, "n h w c"],
    weights: Variables | None,
    opened: Opened,
    mesh: Mesh,
) -> TrainState:
    """Returns the state in a run's newest intact checkpoint, or the state at step 0.

    Args:
        program: what is trained.
        seed: the seed of the run.
        images: the training images.
        weights: the initial weights of a new run; None: random ones.
        opened: the run, and the step to resume from, if any.
        mesh: the devices, each of which gets a whole copy.

    Raises:
        RunError: the checkpoint is damaged.
    """
    created = create(program, seed, images, mesh, weights)
    if opened.run is None or opened.step is None:
        return created
    state = checkpoints.restore(
        opened.run.checkpoints, opened.step, created, opened.run.id
    )
    # Orbax gives keys an equivalent sharding, for which all would compile once more.
    return jax.device_put(state, jax.tree.map(lambda leaf: leaf.sharding, created))


def create(
    program: Program,
    seed: int,
    images: UInt8[Any, "n h w c"],
    mesh: Mesh,
    weights: Variables | None = None,
) -> TrainState:
    """Returns the state at step 0; for the arguments, see `load_state`."""
    seen = train_state.seen_at_start(program, images)
    return _compile_create(program, mesh)(np.uint32(seed), *seen, weights)


@functools.lru_cache(maxsize=16)
def _compile_create(program: Program, mesh: Mesh) -> Callable[..., TrainState]:
    """Returns a compiled function of seed, statistics, images and weights."""

    def created(seed: Array, *others: PyTree) -> TrainState:
        return train_state.from_statistics(program, jax.random.key(seed), *others)

    return jax.jit(created, out_shardings=NamedSharding(mesh, PartitionSpec()))


class Initial(NamedTuple):
    """The initial weights of a training run.

    Attributes:
        variables: variables by collection and layer, for all layers except new ones.
        new: the layers of the classifier that are initialized randomly.
        inputs: the settings that the network's inputs depended on when these variables
            were trained, as far as known.
        left_out: layers in a Keras file that the network does not have.
    """

    variables: Variables
    new: tuple[str, ...]
    inputs: Mapping[str, Any]
    left_out: tuple[str, ...]


def load(
    source: str | os.PathLike[str],
    config: Config,
    model: Network,
    class_names: tuple[str, ...],
) -> Initial:
    """Reads the weights of a run, an export, or a file of PyTorch or Keras.

    Args:
        source: "pretrained", for the bundled network; the directory of a run, whose
            averaged weights are used; the directory of an export, or its .safetensors
            file; a .safetensors file with a state dict of PyTorch; or a .weights.h5,
            .h5 or .keras file.
        config: the config of the run to start.
        model: the network of the run to start.
        class_names: its class names. If a run or export has other names, the last layer
            is new, even if the number of classes is the same.

    Raises:
        UserError: the weights cannot be read, or do not fit the network; only its
            classifier may differ, which is then new.
        RunError: the run's checkpoint is damaged.
    """
    path = trained.PRETRAINED if source == _PRETRAINED else pathlib.Path(source)
    if not os.path.exists(path):  # noqa: PTH110 - False for names that no file can have
        raise UserError(
            f"--init_from={path} does not exist; pass the directory of a run or of an "
            f"export, a file of PyTorch's or Keras's weights, or {_PRETRAINED}"
        )
    found = _read(path, config.model, model, class_names)
    if found.model != config.model:
        settings = {"model": found.model, **found.inputs}
        needs = " ".join(f"--{name}={value}" for name, value in settings.items())
        raise UserError(
            f"--init_from={source} is for --model={found.model} and cannot initialize "
            f"--model={config.model}; pass {needs}"
            + (", or --recipe=finetune" if source == _PRETRAINED else "")
        )
    known = found.variables
    if found.class_names != class_names:
        known = variables.drop_layers(known, model.classifier[-1:])
    known, new = variables.drop_misfits(known, model, config.image_size)
    variables.check(known, model, config.image_size, str(path), missing=new)
    return Initial(known, new, found.inputs, found.left_out)


class _Found(NamedTuple):
    """Weights, and the name, class names and input settings of their network."""

    model: str
    class_names: tuple[str, ...]
    variables: Variables
    inputs: Mapping[str, Any]
    left_out: tuple[str, ...] = ()


def _read(
    path: pathlib.Path, model: str, network: Network, class_names: tuple[str, ...]
) -> _Found:
    """Reads weights; only runs and exports say which network they are for."""
    path = safetensors_files.find_in_export(path) or path
    pytorch_files.refuse_pickles(path)
    if path.is_dir():
        run = run_dir.read(path)
        inputs = {name: getattr(run.config, name) for name in _INPUTS}
        variables = trained.load(run).variables
        return _Found(run.config.model, run.class_names, variables, inputs)
    if path.suffix != ".safetensors":
        found, left_out = keras_weights.convert(path, model)
        return _Found(model, class_names, found, {}, left_out)
    if not safetensors_files.is_described(path):
        return _Found(model, class_names, models.from_pytorch(path, network), {})
    description, variables, _ = trained.read_export(path)
    inputs = {name: description[name] for name in _INPUTS if name in description}
    names = tuple(description["class_names"])
    return _Found(description["model"], names, variables, inputs)
