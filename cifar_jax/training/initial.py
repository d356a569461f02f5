"""Weights that a training starts from instead of random ones."""

import os
import pathlib
from typing import NamedTuple

from cifar_jax.config.config import Config
from cifar_jax.errors import UserError
from cifar_jax.models import Network, from_keras, safetensors_files, variables
from cifar_jax.models.variables import Variables
from cifar_jax.runs import run_dir
from cifar_jax.training import trained


class Initial(NamedTuple):
    """What a training starts from.

    Attributes:
        variables: by collection and layer, for all layers except the new ones.
        new: the layers of the classifier that start from random numbers.
    """

    variables: Variables
    new: tuple[str, ...]


def load(
    source: str | os.PathLike[str],
    config: Config,
    model: Network,
    class_names: tuple[str, ...],
) -> Initial:
    """Reads the weights of a run, of an export or of a file of Keras.

    Args:
        source: the directory of a run, whose averaged weights are taken; a .safetensors
            file of python -m cifar_jax.export; or a .weights.h5, .h5 or .keras file.
        config: of the training that is to start.
        model: its network.
        class_names: the names of its labels. The last layer of a run or an export with
            other names is new, even if they are equally many.

    Raises:
        UserError: they cannot be read, or are not those of the network; only its
            classifier may differ, which is then new.
        RunError: the run's checkpoint is damaged.
    """
    path = pathlib.Path(source)
    if not path.exists():
        raise UserError(
            f"--init_from={path} does not exist; give the directory of a run, a "
            ".safetensors file of an export, or a file of Keras's weights"
        )
    found = _read(path, config.model, class_names)
    if found.model != config.model:
        raise UserError(
            f"--init_from={path} is of --model={found.model}, and cannot start a "
            f"training of --model={config.model}"
        )
    weights = found.variables
    if found.class_names != class_names:
        weights = variables.without(weights, model.classifier[-1:])
    known, new = variables.without_misfits(weights, model, config.image_size)
    variables.check(known, model, config.image_size, str(path), missing=new)
    return Initial(known, new)


class _Found(NamedTuple):
    """Weights, the network that they are of, and the names of its labels."""

    model: str
    class_names: tuple[str, ...]
    variables: Variables


def _read(path: pathlib.Path, model: str, class_names: tuple[str, ...]) -> _Found:
    """Reads weights; a file of Keras does not say what it is of but by its shapes."""
    if path.is_dir():
        run = run_dir.read(path)
        return _Found(run.config.model, run.class_names, trained.load(run).variables)
    if path.suffix == ".safetensors":
        record, variables, _ = safetensors_files.read(path)
        return _Found(record["model"], tuple(record["class_names"]), variables)
    return _Found(model, class_names, from_keras(path))
