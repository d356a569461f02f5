"""What does each distortion do to an image?

    python -m experiments.course.augmentations --data_dir=DIR

Draws a sheet of a few training images under each distortion, under each operation of
trivial_augment and its relatives, and mixed with each other, and writes
augmentations.png to --results_dir. docs/augmentations.png was drawn with
--results_dir=docs. Works for any --dataset. Takes about a minute.
"""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cifar_jax import Config, Dataset, command, load_data
from cifar_jax.data.distortions import operations
from cifar_jax.data.distortions.policies import WIDE
from experiments.harness import common, output

# With probability 1, so that every image shows what they do.
DISTORTIONS = (
    *("crop(padding=4)", "translate(4)", "random_resized_crop", "flip(prob=1)"),
    *("rotate", "affine(20, 0.1, (0.7, 1.3))"),
    *("cutout(16)", "random_erasing(prob=1)", "brightness", "contrast"),
    *("color_jitter", "grayscale(prob=1)"),
    *("trivial_augment", "rand_augment", "auto_augment", "augmix"),
)
MIXTURES = ("mixup(1.0)", "cutmix")
# Of the magnitudes of trivial_augment, from 0 to 30.
BIN = 14
PER_ROW = 4
GAP = 2
FLAGS = flags.FLAGS
Images = NDArray[np.uint8]


def distort(images: Images, text: str, key: jax.Array) -> Images:
    """Returns the images under a list of distortions."""
    config = Config(distortions=text, image_size=min(images.shape[1:3]))
    preprocessing = config.preprocessing
    numbers = jnp.arange(len(images))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
    distorted = jax.vmap(preprocessing.distort, (0, 0, 0, 0, None))(
        keys, jnp.asarray(images), numbers, numbers, key
    )
    mixed, _ = preprocessing.mix(key, distorted, jnp.eye(len(images)))
    return np.asarray(jnp.clip(jnp.round(mixed), 0, 255), np.uint8)


def transform(images: Images, operation: int) -> Images:
    """Returns the images after an operation of trivial_augment."""
    magnitude = WIDE.magnitudes(*images.shape[1:3])[operation, BIN, 0]
    transformed = jax.vmap(operations.transform, (0, None, None))(
        jnp.asarray(images), jnp.int32(operation), magnitude
    )
    return np.asarray(transformed)


def draw(images: Images, seed: int) -> Figure:
    """Returns the sheet of a few images."""
    key = jax.random.key(seed)
    columns = {
        "--distortions": {
            text: distort(images, text, key) for text in DISTORTIONS + MIXTURES
        },
        f"operations, magnitude {BIN} of 30": {
            name: transform(images, operation)
            for operation, name in enumerate(operations.NAMES)
            if name != "identity"
        },
    }
    figure = Figure(figsize=(7.4, 9), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, (title, column) in zip(axes, columns.items(), strict=True):
        _draw_column(axis, title, {"the images": images} | column)
    return figure


def _draw_column(axis: Any, title: str, column: dict[str, Images]) -> None:
    """Draws rows of images, with their names on the left."""
    sheet = [_side_by_side(row) for row in column.values()]
    axis.imshow(np.concatenate(sheet), interpolation="nearest")
    size = len(sheet[0]) - GAP
    middles = np.arange(len(column)) * len(sheet[0]) + size / 2
    axis.set_yticks(middles, list(column))
    axis.tick_params(length=0, labelsize=9)
    axis.set_xticks([])
    axis.set_title(title, fontsize=10)
    axis.spines[:].set_visible(False)
    axis.set_anchor("NE")


def _side_by_side(images: Images) -> NDArray[Any]:
    """Returns the images in a row, each with a white gap to its right and below."""
    around = ((0, 0), (0, GAP), (0, GAP), (0, 0))
    framed = np.pad(images, around, constant_values=255)
    return np.concatenate(framed, axis=1)


def choose(dataset: Dataset, seed: int) -> Images:
    """Returns random training images, of different classes where there are enough."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(dataset.train.labels))
    labels = np.asarray(dataset.train.labels)[order]
    _, first = np.unique(labels, return_index=True)
    chosen = order[np.sort(first)[:PER_ROW]]
    return np.stack([dataset.train.images[index] for index in chosen])


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_integer("seed", 0, "Seed for images and distortions.", lower_bound=0)
    output.define_results_dir()


def main(argv: list[str]) -> None:
    """Draws the sheet."""
    del argv
    dataset = load_data(FLAGS.dataset, FLAGS.data_dir or None)
    command.print_banner(dataset.notice)
    path = pathlib.Path(FLAGS.results_dir) / "augmentations.png"
    figure = draw(choose(dataset, FLAGS.seed), FLAGS.seed)
    output.write_figure(figure, path, dpi=90)
    print(f"drew {path}")


if __name__ == "__main__":
    common.run(main, define_flags)
