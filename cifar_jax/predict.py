"""Classifies image files: python -m cifar_jax.predict cat.png dog.jpg.

The files may have any format and size; - reads one image from stdin. The network is
that of a run, or one that Keras trained on ImageNet:

    python -m cifar_jax.predict --model=resnet50 --weights=resnet50.weights.h5 cat.jpg
"""

from cifar_jax import startup

if __name__ == "__main__":
    startup.prepare()

import json
import sys
from collections.abc import Sequence

import numpy as np
from absl import flags
from jaxtyping import Float

from cifar_jax import command, console
from cifar_jax.data.pictures import read_picture
from cifar_jax.errors import UserError
from cifar_jax.evaluation.inference import Trained, classify
from cifar_jax.models import imagenet
from cifar_jax.runs import run_dir
from cifar_jax.training import trained

_BAR_WIDTH = 30


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    options = flags.FLAGS
    if not arguments:
        raise UserError("no image file given: python -m cifar_jax.predict FILE...")
    network, origin, note = _load()
    names, images, status = [], [], 0
    for name in arguments:
        try:
            # A closed standard input is None.
            stdin = getattr(sys.stdin, "buffer", None)
            images.append(
                read_picture(stdin if name == "-" else name, network.image_shape)
            )
            names.append("stdin" if name == "-" else name)
        except UserError as error:
            # The remaining images are still classified.
            print(f"error: {console.one_line(str(error))}", file=sys.stderr)
            status = error.exit_code
    if not images:
        return status
    probabilities = classify(network, np.stack(images))
    print(console.one_line(note), file=sys.stderr)
    if options.json:
        records = [
            {"file": name, **origin, "probabilities": _by_class(network, p)}
            for name, p in zip(names, probabilities, strict=True)
        ]
        console.say(json.dumps(records, indent=2))
    else:
        for name, p in zip(names, probabilities, strict=True):
            console.say(table(name, _by_class(network, p), options.top))
    return status


def _load() -> tuple[Trained, dict[str, int | str], str]:
    """Returns the network, what it comes from, and a note that says so to people."""
    options = flags.FLAGS
    if options.weights is None:
        if options.model is not None:
            raise UserError(
                f"--model={options.model} needs --weights=FILE; a run in "
                "--checkpoint_dir knows its own network"
            )
        run = run_dir.read(options.checkpoint_dir)
        network = trained.load(run, None, options.raw_params, options.best)
        kind = "raw" if options.raw_params else "averaged"
        note = f"step {network.step} of {run.path}, {kind} parameters"
        note += f"; trained on {run.data_source}"
        return network, {"step": network.step}, note
    if options.model is None:
        raise UserError(
            f"--weights={options.weights} needs --model, the network that they are of: "
            f"{', '.join(imagenet.INPUTS)}"
        )
    for name in ("checkpoint_dir", "raw_params", "best"):
        if options[name].present:
            raise UserError(f"--{name} is of runs; leave it out with --weights")
    network = trained.of_keras(options.model, options.weights)
    note = f"{options.model} with the weights of {options.weights}"
    return network, {"weights": options.weights}, note


def table(name: str, probabilities: dict[str, float], top: int) -> str:
    """Formats an image's most likely classes for people, one per line."""
    width = max(map(len, probabilities))
    lines = [console.one_line(name)]
    for label, p in list(probabilities.items())[:top]:
        lines.append(f"  {label:<{width}} {p:7.2%}  {'#' * round(p * _BAR_WIDTH)}")
    return "\n".join(lines)


def _by_class(
    network: Trained, probabilities: Float[np.ndarray, " classes"]
) -> dict[str, float]:
    """Returns probabilities by class name, most likely first."""
    order = np.argsort(-probabilities, kind="stable")
    return {network.class_names[i]: float(probabilities[i]) for i in order}


def _define_flags() -> None:
    flags.DEFINE_string(
        "checkpoint_dir", "cifar10_train", "Folder of the run, its --train_dir."
    )
    flags.DEFINE_integer("top", 3, "Number of classes to show.", lower_bound=1)
    flags.DEFINE_boolean("json", False, "Print all class probabilities as JSON.")
    flags.DEFINE_enum(
        "model", None, list(imagenet.INPUTS), "The network of Keras, with --weights."
    )
    flags.DEFINE_string(
        "weights",
        None,
        "File of its weights, in one of Keras's formats: .weights.h5, .h5 or .keras.",
    )
    flags.DEFINE_boolean(
        "best",
        False,
        "Use the checkpoint that train --keep_best kept, not the newest.",
    )
    flags.DEFINE_boolean(
        "raw_params", False, "Use the last step's raw parameters, not the averages."
    )


if __name__ == "__main__":
    _define_flags()
    command.run(main, __doc__)
