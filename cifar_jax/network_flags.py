"""The flags that choose a trained network, and the network that they choose."""

import pathlib
from typing import NamedTuple

from absl import flags

from cifar_jax import command
from cifar_jax.errors import UserError
from cifar_jax.evaluation.inference import Trained
from cifar_jax.models.keras import imagenet
from cifar_jax.runs import run_dir
from cifar_jax.training import trained

# What only runs have.
_OF_RUNS = ("checkpoint_dir", "raw_params", "best")


class Chosen(NamedTuple):
    """A network.

    Attributes:
        network: the network.
        origin: what it comes from, for JSON.
        note: what it comes from, for people.
    """

    network: Trained
    origin: dict[str, int | str]
    note: str


def define() -> None:
    """Defines the flags."""
    command.define_path(
        "checkpoint_dir",
        "cifar10_train",
        "Folder of the run, its --train_dir. If it is not given and there is no run in "
        "the default, the network that comes with this package is used.",
    )
    command.define_path(
        "weights",
        None,
        "File with a network: a .safetensors file of python -m cifar_jax.export; or "
        "with --model, in one of Keras's formats, .weights.h5, .h5 or .keras.",
    )
    flags.DEFINE_enum(
        "model", None, list(imagenet.INPUTS), "The network of Keras, with --weights."
    )
    flags.DEFINE_boolean(
        "best",
        False,
        "Use the checkpoint that train --keep_best kept, not the newest.",
    )
    flags.DEFINE_boolean(
        "raw_params", False, "Use the last step's raw parameters, not the averages."
    )


def load() -> Chosen:
    """Loads the network that the flags choose.

    Raises:
        UserError: they contradict each other, or the network cannot be read.
        RunError: a checkpoint is damaged.
    """
    options = flags.FLAGS
    if options.weights is not None:
        return _of_file(options.weights, options.model)
    if options.model is not None:
        raise UserError(
            f"--model={options.model} needs --weights=FILE; a run in "
            "--checkpoint_dir knows its own network"
        )
    default = not any(options[name].present for name in _OF_RUNS)
    if default and not run_dir.exists(pathlib.Path(options.checkpoint_dir)):
        network = trained.of_export()
        note = f"the network that comes with cifar_jax, {trained.PRETRAINED.stem}, as "
        note += f"no run is named and none is in {options.checkpoint_dir}"
        return Chosen(network, {"weights": str(trained.PRETRAINED)}, note)
    run = run_dir.read(options.checkpoint_dir)
    network = trained.load(run, None, options.raw_params, options.best)
    kind = "raw" if options.raw_params else "averaged"
    note = f"step {network.step} of {run.path}, {kind} parameters"
    note += f"; trained on {run.data_source}"
    return Chosen(network, {"step": network.step}, note)


def _of_file(weights: str, model: str | None) -> Chosen:
    for name in _OF_RUNS:
        if flags.FLAGS[name].present:
            raise UserError(f"--{name} is of runs; leave it out with --weights")
    origin: dict[str, int | str] = {"weights": weights}
    if weights.endswith(".safetensors"):
        if model is not None:
            raise UserError(
                f"--weights={weights} knows its own network; leave out --model"
            )
        return Chosen(trained.of_export(weights), origin, f"the network of {weights}")
    if model is None:
        raise UserError(
            f"--weights={weights} needs --model, the network that they are of: "
            f"{', '.join(imagenet.INPUTS)}"
        )
    network = trained.of_keras(model, weights)
    return Chosen(network, origin, f"{model} with the weights of {weights}")
