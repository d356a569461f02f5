"""What is pooling good for?

    python -m experiments.course.why_pooling --data_dir=DIR --max_steps=3000

According to the course, pooling extracts features again, makes the next layer cheaper
and guards against overfitting, and maxima care little about where a feature is. This
compares the tutorial's network with one that instead takes every second pixel: their
precision on the test images, on the training images, and on shifted test images. Both
train without random distortions, which would also guard against overfitting. A third
network, which keeps every pixel, only shows what that would cost. Prints tables, and
writes why_pooling.json, .csv and .png to --results_dir. An interrupted experiment
resumes where it left off. Takes about 2 minutes per 1,000 steps on 2 cores, with 2 runs
per seed.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from cifar_jax import Dataset, Split, Trained, evaluate, models
from cifar_jax.models.tutorial import TutorialCNN
from experiments.course.corruptions import CORRUPTIONS
from experiments.harness import common, output, plots, studies
from experiments.harness.studies import Variant

SHIFTS = CORRUPTIONS["shift"].strengths


class EverySecondPixel(TutorialCNN):
    """The tutorial's network, halving images by dropping pixels."""

    def pool(self, x: Float[Array, "h w c n"]) -> Float[Array, "oh ow c n"]:
        """Returns every second pixel of every second row."""
        return x[::2, ::2]


class EveryPixel(TutorialCNN):
    """The tutorial's network, without halving images."""

    def pool(self, x: Float[Array, "h w c n"]) -> Float[Array, "h w c n"]:
        """Returns the image."""
        return x


NETWORKS = {
    "max pooling": TutorialCNN,
    "every second pixel": EverySecondPixel,
    "every pixel": EveryPixel,
}
TRAINED = ("max pooling", "every second pixel")


def costs(network: TutorialCNN) -> dict[str, int]:
    """Returns a network's numbers of parameters and of multiplications per image."""

    def activations(key: Array) -> tuple[Any, Any]:
        images = jnp.zeros((1, 24, 24, 3))
        variables = network.init(key, images)
        _, sown = network.apply(variables, images, mutable=["intermediates"])
        return variables["params"], sown["intermediates"]["activations"]

    params, layers = jax.eval_shape(activations, jax.random.key(0))
    positions = {
        name: int(np.prod(values.shape[1:-1]))
        for layer in layers
        for name, values in layer.items()
    }
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "multiplications": sum(
            positions[name] * leaves["kernel"].size for name, leaves in params.items()
        ),
    }


def shifted(network: Trained, dataset: Dataset) -> dict[str, float]:
    """Returns the precision on shifted test images, by distance."""
    test = dataset.test
    return {
        f"shift_{distance:g}": evaluate(
            network, Split(CORRUPTIONS["shift"].at(test.images, level), test.labels)
        )
        for level, distance in enumerate(SHIFTS, start=1)
    }


def draw(record: dict[str, Any]) -> Figure:
    """Shows precision on training and test images, and on shifted ones."""
    splits = [studies.by_variant(record, name) for name in reversed(studies.SPLITS)]
    shifts = [studies.by_variant(record, f"shift_{distance:g}") for distance in SHIFTS]
    figure = plots.figure(4.6, "What is pooling good for?")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[2, 3])
    for axis, xs, columns in (
        (left, [0, 1], splits),
        (right, [0, *SHIFTS], [splits[1], *shifts]),
    ):
        for name, style in zip(columns[0], plots.STYLES, strict=False):
            means = [np.mean(found[name]) for found in columns]
            axis.plot(xs, means, color=style["color"])
            axis.plot([], [], label=name, **style)
            for x, found in zip(xs, columns, strict=True):
                many = [x] * len(found[name])
                axis.plot(many, found[name], ls="", **style)
        axis.grid(alpha=0.3)
    left.set_xticks([0, 1], ["training\nimages", "test\nimages"])
    left.set(xlim=(-0.4, 1.4), ylabel="precision @ 1", title="Overfitting")
    right.set(xlabel="shift in pixels", title="Shifted test images")
    figure.supxlabel(
        f"after {record['settings']['max_steps']:,} steps without distortions; a dot "
        f"is a run ({plots.count(splits[0].values())}), lines join the means\n"
        f"{record['data']['source']}",
        fontsize=10,
    )
    left.legend(frameon=False)
    return figure


def main(argv: list[str]) -> None:
    """Runs the study and saves its results."""
    del argv
    facts = {name: costs(network()) for name, network in NETWORKS.items()}
    rows = [
        [name, f"{fact['parameters']:,}", f"{fact['multiplications']:,}"]
        for name, fact in facts.items()
    ]
    header = ["network", "parameters", "multiplications per image"]
    print(output.table(header, rows), flush=True)
    variants = []
    for name in TRAINED:
        model = f"tutorial_{name.replace(' ', '_')}"
        models.MODELS[model] = NETWORKS[name]
        variants.append(Variant(name, {"model": model, "distortions": "center_crop"}))
    record = studies.run(variants, shifted) | {"networks": facts}
    means = {
        f"{distance:g}": studies.by_variant(record, f"shift_{distance:g}")
        for distance in SHIFTS
    }
    rows = [
        [name, *(f"{np.mean(values[name]):.4f}" for values in means.values())]
        for name in TRAINED
    ]
    studies.keep("why_pooling", record, draw)
    print(f"\nPrecision by shift in pixels\n{output.table(['variant', *means], rows)}")


if __name__ == "__main__":
    common.run(main, studies.define_flags, draw)
