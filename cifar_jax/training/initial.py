"""Weights that a training starts from instead of random ones."""

import os
import pathlib
from typing import NamedTuple

from cifar_jax.config.config import Config
from cifar_jax.errors import UserError
from cifar_jax.models import Network, from_keras, safetensors_files, variables
from cifar_jax.models.safetensors_files import Contents
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
    if path.is_dir():
        found = _of_run(path)
    elif path.suffix == ".safetensors":
        found = safetensors_files.read(path)
    else:
        # Only its shapes tell what a file of Keras is of.
        found = Contents(config.model, class_names, from_keras(path))
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


def _of_run(path: pathlib.Path) -> Contents:
    """Returns a run's averaged weights."""
    run = run_dir.read(path)
    return Contents(run.config.model, run.class_names, trained.load(run).variables)
