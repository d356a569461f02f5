"""Classifies pictures: python -m cifar_jax.predict cat.png dog.jpg photos.

Pictures may have any format and size; a folder stands for the pictures in it, and - for
a picture on stdin. The network is that of the run in --checkpoint_dir; without a run,
the bundled network is used. It can also be an ImageNet network from Keras:

    python -m cifar_jax.predict --model=resnet50 --weights=resnet50.weights.h5 cat.jpg
"""

from cifar_jax import startup

if __name__ == "__main__":
    startup.prepare()

import itertools
import json
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from jaxtyping import Float, UInt8
from tqdm import tqdm

from cifar_jax import command, console, network_flags
from cifar_jax.data.folder import pictures
from cifar_jax.errors import RunError, UserError
from cifar_jax.evaluation import plot_files
from cifar_jax.evaluation.inference import Trained, classify

GENERATOR = "python -m cifar_jax.predict"
_BAR_WIDTH = 30
# Number of pictures in memory at a time.
_BLOCK = 64
# A plot of more would be too tall to view.
MOST_DRAWN = 20


class _Picture(NamedTuple):
    name: str
    image: UInt8[np.ndarray, "h w 3"]


def main(arguments: Sequence[str]) -> int:
    """Runs the command and returns its exit status."""
    options = flags.FLAGS
    if not arguments:
        raise UserError(f"no image file given: {GENERATOR} FILE...")
    if options.show:
        plot_files.check(pathlib.Path(options.out), "out", GENERATOR)
    network, origin, note, _, resize = network_flags.load()
    problems: list[UserError | RunError] = []
    records: list[dict[str, Any]] = []
    drawn: list[_Picture] = []
    found = _read(arguments, network, resize, problems)
    while block := list(itertools.islice(found, _BLOCK)):
        if not records:
            console.note(note)
        probabilities = _probabilities(network, block)
        for (name, _), p in zip(block, probabilities, strict=True):
            by_class = _sort_by_class(network, p)
            records.append({"file": name, **origin, "probabilities": by_class})
            if not options.json:
                console.say(*table(name, by_class, options.top))
        drawn += block[: MOST_DRAWN - len(drawn)]
    if options.json and records:
        console.say(*json.dumps(records, indent=2).splitlines())
    if options.show and drawn:
        _draw(network, drawn, records)
    return problems[-1].exit_code if problems else 0


def table(name: str, probabilities: dict[str, float], top: int) -> list[str]:
    """Formats an image's most likely classes for humans, one per line."""
    width = max(map(len, probabilities))
    lines = [name]
    for label, p in list(probabilities.items())[:top]:
        lines.append(f"  {label:<{width}} {p:7.2%}  {'#' * round(p * _BAR_WIDTH)}")
    return lines


def _read(
    arguments: Sequence[str],
    network: Trained,
    resize: pictures.Resizing,
    problems: list[UserError | RunError],
) -> Iterator[_Picture]:
    """Yields the pictures that can be read, and reports the others."""

    def report(error: UserError | RunError) -> None:
        console.note(f"error: {error}")
        problems.append(error)

    files: list[str] = []
    for name in arguments:
        try:
            files += pictures.find(name)
        except UserError as error:
            report(error)
    # Without --json, each result is printed as soon as it is available. None: the bar
    # is for terminals only.
    silent = None if flags.FLAGS.json else True
    for name in tqdm(files, "Classifying", file=sys.stderr, delay=2, disable=silent):
        # A closed standard input is None.
        stdin = getattr(sys.stdin, "buffer", None)
        try:
            image = pictures.read_picture(
                stdin if name == "-" else name,
                network.image_shape,
                value_range=network.value_range,
                resize=resize,
            )
        except (UserError, RunError) as error:
            report(error)
        else:
            yield _Picture("stdin" if name == "-" else name, image)


def _probabilities(
    network: Trained, block: Sequence[_Picture]
) -> Float[np.ndarray, "n classes"]:
    """Returns the probability of each class for each picture.

    Raises:
        UserError: the probabilities are not finite.
    """
    probabilities = classify(network, np.stack([image for _, image in block]))
    for (name, _), p in zip(block, probabilities, strict=True):
        if not np.isfinite(p).all():
            raise UserError(
                f"the network's outputs for {name} are not finite: its weights are too "
                "large, so it cannot be used"
            )
    return probabilities


def _draw(
    network: Trained, found: Sequence[_Picture], records: list[dict[str, Any]]
) -> None:
    """Draws the first pictures, each with its bars and saliency map."""
    # Imported here because matplotlib takes a second and only --show needs it.
    from cifar_jax.evaluation import prediction_plot
    from cifar_jax.evaluation.saliency import saliency_map

    options = flags.FLAGS
    predictions = []
    for (name, image), record in zip(
        tqdm(found, "Computing saliency maps", file=sys.stderr, delay=2, disable=None),
        records,
        strict=False,
    ):
        probabilities = record["probabilities"]
        label = network.class_names.index(next(iter(probabilities)))
        saliency = saliency_map(network, image, label)
        predictions.append(
            prediction_plot.Prediction(name, image, probabilities, saliency)
        )
    figure = prediction_plot.draw(predictions, options.top)
    plot_files.write(figure, pathlib.Path(options.out), "out", GENERATOR)
    if not options.json:
        which = f"the first {len(found)} are drawn in "
        words = which if len(found) < len(records) else "drawn in "
        console.say(words + options.out)


def _sort_by_class(
    network: Trained, probabilities: Float[np.ndarray, " classes"]
) -> dict[str, float]:
    """Returns probabilities by class name, most likely first."""
    order = np.argsort(-probabilities, kind="stable")
    return {network.class_names[i]: float(probabilities[i]) for i in order}


def define_flags() -> None:
    """Defines the flags of this command."""
    network_flags.define()
    flags.DEFINE_integer("top", 3, "Number of classes to show.", lower_bound=1)
    flags.DEFINE_boolean("json", False, "Print all class probabilities as JSON.")
    flags.DEFINE_boolean(
        "show",
        False,
        f"Draw up to {MOST_DRAWN} pictures, with bars of their classes and maps of "
        "the pixels that the first class depends on.",
    )
    command.define_path(
        "out",
        "predictions.png",
        "File (.png or .svg) for --show. An earlier plot there is replaced.",
    )


if __name__ == "__main__":
    command.run(main, define_flags, __doc__)
