"""Flags that choose a trained network, and how it is loaded."""

import pathlib
from typing import NamedTuple, get_args

from absl import flags

from cifar_jax import command
from cifar_jax.data.folder.pictures import Resizing
from cifar_jax.errors import UserError
from cifar_jax.evaluation.inference import Trained
from cifar_jax.models import safetensors_files
from cifar_jax.models.keras import imagenet
from cifar_jax.models.pytorch import files as pytorch_files
from cifar_jax.runs import run_dir
from cifar_jax.training import trained

# Flags that only apply to runs.
_PARAMS_OF_RUNS = ("raw_params", "best")
_OF_RUNS = ("checkpoint_dir", *_PARAMS_OF_RUNS)


class Chosen(NamedTuple):
    """The network that the flags choose.

    Attributes:
        network: the network.
        origin: where it comes from, for JSON.
        note: where it comes from, for the user who passed the flags.
        title: the same for guests, who see only the last folder of a path.
        resize: how pictures are resized for it.
    """

    network: Trained
    origin: dict[str, int | str]
    note: str
    title: str
    resize: Resizing


def define() -> None:
    """Defines the flags."""
    command.define_path(
        "checkpoint_dir",
        "cifar10_train",
        "Folder of the run, its --train_dir, or of an export. If the flag is omitted "
        "and the default folder holds no run, the bundled network is used.",
    )
    command.define_path(
        "weights",
        None,
        "File with a network: a .safetensors file from python -m cifar_jax.export, or "
        "its folder; or with --model, a Keras file (.weights.h5, .h5 or .keras).",
    )
    flags.DEFINE_enum(
        "model", None, list(imagenet.INPUTS), "The Keras network for --weights."
    )
    flags.DEFINE_boolean(
        "best",
        False,
        "Use the checkpoint that train --keep_best kept, not the newest.",
    )
    flags.DEFINE_boolean(
        "raw_params", False, "Use the last step's raw parameters, not their averages."
    )
    flags.DEFINE_enum(
        "resize",
        None,
        list(get_args(Resizing)),
        "How pictures are resized for the network: crop takes the center in the right "
        "proportions and scales it by Lanczos; stretch takes the nearest pixels, as "
        "load_img of Keras does. Default: stretch for Keras networks, crop for others.",
    )


def load() -> Chosen:
    """Loads the network that the flags choose.

    Raises:
        UserError: they contradict each other, or the network cannot be read.
        RunError: a checkpoint is damaged.
    """
    options = flags.FLAGS
    if options.weights is not None:
        return _from_weights(options.weights, options.model)
    if options.model is not None:
        raise UserError(
            f"--model={options.model} needs --weights=FILE; a run in "
            "--checkpoint_dir knows its own network"
        )
    folder = pathlib.Path(options.checkpoint_dir)
    default = not any(options[name].present for name in _OF_RUNS)
    if (export := safetensors_files.find_in_export(folder)) is not None:
        return _from_export(str(export), folder)
    if default and not run_dir.exists(folder):
        network = trained.from_export()
        title = f"the bundled network, {trained.PRETRAINED.stem}"
        note = f"{title}, as no run was named and {options.checkpoint_dir} has none"
        return _choose(network, {"weights": str(trained.PRETRAINED)}, note, title)
    run = run_dir.read(folder)
    network = trained.load(run, None, options.raw_params, options.best)
    kind = "raw" if options.raw_params else "averaged"
    note, title = (
        f"step {network.step} of {name}, {kind} parameters"
        for name in (run.path, _last_name(run.path))
    )
    note += f"; trained on {run.data_source}"
    return _choose(network, {"step": network.step}, note, title)


def _from_weights(weights: str, model: str | None) -> Chosen:
    """Returns the network of --weights; Keras weights also need --model."""
    _refuse(_OF_RUNS, "omit it with --weights")
    path = pathlib.Path(weights)
    pytorch_files.refuse_pickles(path)
    export = safetensors_files.find_in_export(path)
    if export is None and run_dir.exists(path):
        raise UserError(
            f"--weights={weights} is the folder of a run; pass it as --checkpoint_dir"
        )
    if export is not None or weights.endswith(".safetensors"):
        if model is not None:
            raise UserError(f"--weights={weights} knows its own network; omit --model")
        return _from_export(weights if export is None else str(export), path)
    if model is None:
        raise UserError(
            f"--weights={weights} needs --model, the network that they belong to: "
            f"{', '.join(imagenet.INPUTS)}"
        )
    network = trained.from_keras(model, weights)
    note, title = (
        f"{model} with the weights of {name}" for name in (weights, _last_name(path))
    )
    return _choose(network, {"weights": weights}, note, title, "stretch")


def _from_export(file: str, given: pathlib.Path) -> Chosen:
    """Returns the network in a file; the user gave the file or its folder."""
    _refuse(_PARAMS_OF_RUNS, "omit it with an export, which has one set of parameters")
    network = trained.from_export(file)
    note, title = f"the network of {file}", f"the network of {_last_name(given)}"
    return _choose(network, {"weights": file}, note, title)


def _choose(
    network: Trained,
    origin: dict[str, int | str],
    note: str,
    title: str,
    resize: Resizing = "crop",
) -> Chosen:
    """Returns a network with --resize, or else the default passed here."""
    return Chosen(network, origin, note, title, flags.FLAGS.resize or resize)


def _last_name(path: pathlib.Path) -> str:
    return path.resolve().name


def _refuse(names: tuple[str, ...], way_out: str) -> None:
    for name in names:
        if flags.FLAGS[name].present:
            raise UserError(f"--{name} applies to runs; {way_out}")
