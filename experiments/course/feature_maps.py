"""What do a network's layers see in a picture, and how does noise change it?

    python -m experiments.course.feature_maps --checkpoint_dir=DIR --picture=FILE

Writes to --results_dir, for any network and any picture (or a test image, --index):

feature_maps.png          the output of each convolution
feature_maps_kernels.png  the kernels of the first layer, as colors
feature_maps_noise.png    some of the maps with noise, and the change of each layer
feature_maps.json         the numbers, and the network's prediction

The change of a layer is ||a(noisy) - a(clean)|| / ||a(clean)||, over all its values.
Its change for the picture with shuffled pixels shows how much the layer depends on the
content at all, as a reference for the changes caused by noise.

Takes about 15 seconds; --quick uses fewer noise samples and fewer maps.
"""

import pathlib
from collections import Counter
from typing import Any

import jax
import numpy as np
from absl import flags
from jaxtyping import Float, UInt8

from cifar_jax import (
    Run,
    Trained,
    UserError,
    classify,
    load_data,
    load_trained,
    read_picture,
    read_run,
)
from cifar_jax.evaluation.feature_maps import Layers, activations, convolutions
from experiments.course.corruptions import Images, noise
from experiments.course.feature_maps_plot import plot_kernels, plot_maps, plot_noise
from experiments.harness import common, machine, output

FLAGS = flags.FLAGS


def first_kernels(network: Trained) -> Float[np.ndarray, "kh kw 3 k"]:
    """Returns the kernels of the layer that reads the picture's three channels."""
    kernels = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(network.variables)
        if path[-1].key == "kernel" and leaf.ndim == 4 and leaf.shape[2] == 3
    ]
    return np.asarray(kernels[0])


def spoilt(image: Images, draws: int) -> dict[str, Images]:
    """Returns copies of the picture with each noise, and with shuffled pixels.

    Args:
        image: The picture, as a batch of one.
        draws: Number of copies of each type.
    """
    copies = np.repeat(image, draws, axis=0)
    kinds = {
        f"sigma {sigma}": noise(copies, float(sigma), np.random.default_rng(FLAGS.seed))
        for sigma in FLAGS.sigmas
    }
    pixels = copies.reshape(draws, -1, 3)
    order = np.random.default_rng(FLAGS.seed).random(pixels.shape[:2]).argsort(axis=1)
    shuffled = np.take_along_axis(pixels, order[..., None], axis=1)
    return kinds | {"pixels shuffled": shuffled.reshape(copies.shape)}


def change(values: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, " n-1"]:
    """Returns the distance of each item from the first, relative to its norm."""
    flat = values.reshape(len(values), -1)
    return np.linalg.norm(flat[1:] - flat[0], axis=1) / np.linalg.norm(flat[0])


def measure(
    network: Trained, layers: Layers, kinds: list[str], images: Images
) -> dict[str, Any]:
    """Returns statistics of each layer, and changes and predictions by corruption.

    Args:
        network: The trained network.
        layers: Activations for the images.
        kinds: The corruptions of the images after the first, equally many of each.
        images: The picture, followed by its corrupted copies.
    """
    by_layer = {}
    for name, values in layers.items():
        each = change(values).reshape(len(kinds), -1)
        clean = values[0]
        by_layer[name] = {
            "shape": clean.shape,
            "min": float(clean.min()),
            "max": float(clean.max()),
            "mean": float(clean.mean()),
            "share_of_zeros": float(np.mean(clean == 0)),
            "change": dict(zip(kinds, each.mean(axis=1).tolist(), strict=True)),
            "change_sd": dict(zip(kinds, each.std(axis=1).tolist(), strict=True)),
        }
    probabilities = classify(network, images)
    first, *others = np.array(network.class_names)[probabilities.argmax(axis=-1)]
    by_kind = np.reshape(others, (len(kinds), -1)).tolist()
    return {
        "draws": len(by_kind[0]),
        "answer": {str(first): float(probabilities[0].max())},
        "answers": {
            kind: dict(Counter(names).most_common())
            for kind, names in zip(kinds, by_kind, strict=True)
        },
        "layers": by_layer,
    }


def report(figures: dict[str, Any]) -> str:
    """Returns a table of the layers' changes, and the network's predictions."""
    header = ["layer", "shape", "zeros", *figures["answers"]]
    rows = [
        [
            name,
            "x".join(map(str, layer["shape"])),
            f"{layer['share_of_zeros']:.0%}",
            *(f"{mean:.3f}" for mean in layer["change"].values()),
        ]
        for name, layer in figures["layers"].items()
    ]
    [(name, probability)] = figures["answer"].items()
    lines = [f"prediction: {name} ({probability:.1%})"]
    for kind, counts in figures["answers"].items():
        text = ", ".join(f"{name} {count} times" for name, count in counts.items())
        lines.append(f"{kind}: {text}")
    table = output.table(header, rows)
    return f"relative change of each layer\n{table}\n\n" + "\n".join(lines)


def read_image(run: Run) -> tuple[UInt8[np.ndarray, "h w 3"], str]:
    """Returns the requested picture and its description."""
    if FLAGS.picture:
        picture = read_picture(FLAGS.picture, run.image_shape)
        return picture, pathlib.Path(FLAGS.picture).name
    dataset = load_data(FLAGS.dataset, FLAGS.data_dir or run.config.data_dir)
    test = dataset.test
    label = dataset.class_names[test.labels[FLAGS.index]]
    source = output.without_paths(dataset.source)
    return test.images[FLAGS.index], f"test image {FLAGS.index} ({label}) of {source}"


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_string(
        "checkpoint_dir", "cifar10_train", "Same as for the eval command."
    )
    flags.DEFINE_string("picture", "", "Picture file; by default, test image --index.")
    flags.DEFINE_integer("index", 13, "Index of a test image.", lower_bound=0)
    flags.DEFINE_list(
        "sigmas", ["5", "10", "20", "40"], "Noise levels, on a scale from 0 to 255."
    )
    flags.DEFINE_integer("draws", 32, "Samples per noise level.", lower_bound=1)
    flags.DEFINE_integer(
        "maps", 64, "Maximum number of maps shown per layer.", lower_bound=1
    )
    flags.DEFINE_integer("seed", 0, "Seed of the noise.")
    flags.DEFINE_boolean("quick", False, "Use 2 samples and 16 maps per layer.")
    output.define_results_dir()


def main(argv: list[str]) -> None:
    """Measures, prints, saves and draws the activations."""
    del argv
    run = read_run(FLAGS.checkpoint_dir)
    network = load_trained(run)
    image, description = read_image(run)
    draws, maps = (2, 16) if FLAGS.quick else (FLAGS.draws, FLAGS.maps)
    kinds = spoilt(image[None], draws)
    images = np.concatenate([image[None], *kinds.values()])
    layers = activations(network, images)
    if not convolutions(layers):
        raise UserError(
            f"the network in {FLAGS.checkpoint_dir} has no feature maps to draw; pass "
            "the --checkpoint_dir of a convolutional network"
        )
    figures = measure(network, layers, list(kinds), images)
    about = {
        "machine": machine.machine(),
        "recipe": run.config.recipe,
        "step": network.step,
        "trained_on": output.without_paths(run.data_source),
        "picture": description,
        "seed": FLAGS.seed,
    }
    print(
        f"{run.config.recipe}, step {network.step}; {description}\n\n{report(figures)}"
    )
    results = pathlib.Path(FLAGS.results_dir)
    output.write(about | figures, results / "feature_maps.json")
    plot_maps(image, layers, maps, results / "feature_maps.png")
    plot_kernels(first_kernels(network), maps, results / "feature_maps_kernels.png")
    plot_noise(images, layers, figures, results / "feature_maps_noise.png")


if __name__ == "__main__":
    common.run(main, define_flags)
