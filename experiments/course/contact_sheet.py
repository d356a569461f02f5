"""What do the images look like?

    python -m experiments.course.contact_sheet --data_dir=DIR

Draws ten random images of each class, like CIFAR-10's web page, and writes
contact_sheet.png to --results_dir. Prints the number of images in each class. Works for
any --dataset. Takes a few seconds.

CIFAR-10 is named after the Canadian Institute For Advanced Research. Its images are
60,000 of the 80 million tiny images of Torralba, Fergus and Freeman, 2008.
"""

import pathlib

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from cifar_jax import Dataset, command, load_data
from experiments.harness import common, output

PER_CLASS = 10
FLAGS = flags.FLAGS


def counts(dataset: Dataset) -> list[tuple[str, int, int]]:
    """Returns each class's name and its numbers of training and test images."""
    size = len(dataset.class_names)
    train, test = (
        np.bincount(split.labels, minlength=size).tolist()
        for split in (dataset.train, dataset.test)
    )
    return list(zip(dataset.class_names, train, test, strict=True))


def draw(dataset: Dataset, seed: int) -> Figure:
    """Returns a row of random training images for each class.

    A class with too few images has a shorter row.
    """
    random = np.random.default_rng(seed)
    names = dataset.class_names
    figure = Figure(figsize=(8, 0.68 * len(names) + 0.3), layout="constrained")
    axes = figure.subplots(len(names), PER_CLASS, squeeze=False)
    for label, (name, row) in enumerate(zip(names, axes, strict=True)):
        found = random.permutation(np.flatnonzero(dataset.train.labels == label))
        for axis in row:
            axis.axis("off")
        for axis, index in zip(row, found[:PER_CLASS], strict=False):
            axis.imshow(dataset.train.images[index], interpolation="nearest")
        row[0].text(
            -0.2, 0.5, name, transform=row[0].transAxes, ha="right", va="center"
        )
    return figure


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_integer("seed", 0, "Seed for choosing the images.", lower_bound=0)
    output.define_results_dir()


def main(argv: list[str]) -> None:
    """Draws the images and prints how many there are."""
    del argv
    dataset = load_data(FLAGS.dataset, FLAGS.data_dir or None)
    command.print_banner(dataset.notice)
    rows = [(name, f"{train:,}", f"{test:,}") for name, train, test in counts(dataset)]
    print(output.table(("class", "training images", "test images"), rows))
    path = pathlib.Path(FLAGS.results_dir) / "contact_sheet.png"
    output.write_figure(draw(dataset, FLAGS.seed), path)


if __name__ == "__main__":
    common.run(main, define_flags)
