"""What do convolution, padding, stride, pooling, softmax and one-hot targets compute?

    python -m experiments.course.convolution

Computes the course's worked examples with the operations that the networks use, and
prints the arithmetic behind one output of each. Writes to --results_dir all numbers
(convolution.json), and figures with that output and its inputs highlighted
(convolution.png, convolution_pooling.png and convolution_softmax.png). The cost of a
stride is measured on a layer as large as the tutorial's second one. Takes a few
seconds.

As in every deep learning library, convolution does not flip its kernel: an output is
the sum of the products of the kernel and the window below it, plus the bias.
"""

import functools
import pathlib
import time
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import linen as nn
from jax import lax
from jaxtyping import Float

from cifar_jax.ops import conv, max_pool
from cifar_jax.optimization.losses import CrossEntropy
from experiments.course.convolution_plot import plot
from experiments.course.worked_example import BIAS, KERNEL, Example
from experiments.harness import common, machine, output

# The course's image.
IMAGE = np.array(
    [
        [1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 1, 1, 1],
        [0, 0, 1, 1, 0],
        [0, 1, 1, 0, 0],
    ],
    np.float32,
)
# Outputs of a layer; the course has the answers: maxima 2 and 6, means 2 and 0.
FEATURES = np.array([[2, 2, 6, -2], [2, 2, -2, -2]], np.float32)
CLASSES = ("plane", "car", "ship", "cat", "dog", "sun")
# The softmax output, as printed in the course; it adds up to 0.991.
PROBABILITIES = np.array([0.001, 0.030, 0.620, 0.101, 0.020, 0.219], np.float32)
# The course's examples for one-hot codes.
CATEGORIES = {
    "sex": ("female", "male"),
    "car": ("sedan", "pickup", "SUV", "truck", "bus", "other"),
}
STRIDES = (1, 2, 3)

FLAGS = flags.FLAGS


def pad(size: int, stride: int, padding: str) -> Float[np.ndarray, "padded_h padded_w"]:
    """Returns the image with NaN wherever windows of this size extend beyond it."""
    pads = lax.padtype_to_pads(IMAGE.shape, (size, size), (stride, stride), padding)
    return np.pad(IMAGE, pads, constant_values=np.nan)


def convolution(
    title: str, lesson: str, padding: str, stride: int, cell: tuple[int, int]
) -> Example:
    """Returns an example of convolution, using the tutorial's layer where possible."""
    image, kernel = jnp.asarray(IMAGE), jnp.asarray(KERNEL)
    if (padding, stride) == ("SAME", 1):
        y = conv(image[..., None, None], kernel[..., None, None])[..., 0, 0]
    else:
        y = lax.conv(image[None, None], kernel[None, None], [stride] * 2, padding)[0, 0]
    padded, sums = pad(3, stride, padding), np.array(y + BIAS)
    return Example(title, lesson, padded, 0, (3, 3), stride, sums, cell, "sum")


def pooling(form: Literal["max", "mean"]) -> Example:
    """Returns an example of pooling."""
    features, window = jnp.asarray(FEATURES), (2, 2)
    if form == "max":
        y = max_pool(features[..., None, None], window, window)[..., 0, 0]
        lesson = "the largest of four values counts, wherever it is"
    else:
        y = nn.avg_pool(features[None, ..., None], window, window)[0, ..., 0]
        lesson = "a large value can get lost among small ones"
    title = f"2x2 {form} pooling, stride 2"
    return Example(title, lesson, FEATURES, None, window, 2, np.array(y), (0, 1), form)


def examples() -> list[Example]:
    """Returns the examples of convolution and pooling."""
    return [
        convolution(
            "Convolution without padding (VALID), stride 1",
            "the window stays inside, so the border is lost: 5x5 becomes 3x3",
            "VALID",
            stride=1,
            cell=(0, 0),
        ),
        convolution(
            "Zero padding (SAME), stride 1",
            "the size stays 5x5, but sums at the border are smaller, due to the zeros",
            "SAME",
            stride=1,
            cell=(0, 0),
        ),
        convolution(
            "Zero padding (SAME), stride 3",
            "the window moves by 3: 5x5 becomes 2x2, with zeros at one end only",
            "SAME",
            stride=3,
            cell=(0, 1),
        ),
        pooling("max"),
        pooling("mean"),
    ]


def classification() -> dict[str, Any]:
    """Returns the softmax of the logits and the loss for each one-hot target.

    The course does not show the logits; these are the logarithms of its probabilities.
    """
    logits = jnp.log(PROBABILITIES)
    labels = jnp.arange(len(CLASSES))
    losses = [CrossEntropy()(logits[None], label[None], {})[0] for label in labels]
    return {
        "classes": CLASSES,
        "logits": logits.tolist(),
        "exponentials": jnp.exp(logits).tolist(),
        "softmax": jax.nn.softmax(logits).tolist(),
        "targets": jax.nn.one_hot(labels, len(CLASSES)).tolist(),
        "cross_entropy": [float(loss) for loss in losses],
    }


def one_hot() -> dict[str, dict[str, list[float]]]:
    """Returns one-hot codes of the categories, and one-number codes of sex as well."""
    codes = {}
    for name, values in CATEGORIES.items():
        rows = jax.nn.one_hot(jnp.arange(len(values)), len(values)).tolist()
        codes[name] = dict(zip(values, rows, strict=True))
    shorter = {value: code[:1] for value, code in codes["sex"].items()}
    return {"sex, by one number": shorter} | codes


def costs_of_strides(repetitions: int = 5) -> list[dict[str, float]]:
    """Returns size, multiplications and milliseconds of a convolution for each stride.

    It has 64 kernels of 5x5 for 128 images of 24x24 pixels with 64 channels.
    """
    images, kernels = jnp.ones((128, 64, 24, 24)), jnp.ones((64, 64, 5, 5))
    rows: list[dict[str, float]] = []
    for stride in STRIDES:
        convolve = jax.jit(
            functools.partial(lax.conv, window_strides=[stride] * 2, padding="SAME")
        )
        size = jax.block_until_ready(convolve(images, kernels)).shape[-1]
        durations = []
        for _ in range(repetitions):
            began = time.perf_counter()
            jax.block_until_ready(convolve(images, kernels))
            durations.append(1000 * (time.perf_counter() - began))
        rows.append(
            {
                "stride": stride,
                "size": size,
                "multiplications": images.shape[0] * size**2 * kernels.size,
                "milliseconds": round(float(np.median(durations)), 1),
            }
        )
    return rows


def define_flags() -> None:
    """Defines the flags of this experiment."""
    output.define_results_dir()


def main(argv: list[str]) -> None:
    """Computes, prints, saves and draws the examples."""
    del argv
    panels, figures, costs = examples(), classification(), costs_of_strides()
    for example in panels:
        print(f"{example.title}\n{example.output}\n{example.arithmetic}\n")
    values = ("logits", "exponentials", "softmax", "cross_entropy")
    rows = [[name, *(f"{x:.3f}" for x in figures[name])] for name in values]
    print(f"Softmax\n{output.table(['', *CLASSES], rows)}")
    print(f"the exponentials sum to {sum(figures['exponentials']):.3f}")
    for name, codes in one_hot().items():
        print(f"\nCodes of {name}")
        for value, code in codes.items():
            print(f"{value}: {[int(bit) for bit in code]}")
    rows = [[f"{value:,}" for value in cost.values()] for cost in costs]
    print(f"\nThe cost of a stride\n{output.table(list(costs[0]), rows)}")
    record = {
        "machine": machine.machine() | {"device": machine.device()},
        "image": IMAGE.tolist(),
        "kernel": KERNEL.tolist(),
        "bias": BIAS,
        "features": FEATURES.tolist(),
        "examples": [example.record() for example in panels],
        "classification": figures,
        "one_hot": one_hot(),
        "costs_of_strides": costs,
    }
    directory = pathlib.Path(FLAGS.results_dir)
    file = directory / "convolution.json"
    output.write(record, file)
    plot(panels, KERNEL, BIAS, figures, one_hot(), costs, file.with_suffix(".png"))


if __name__ == "__main__":
    common.run(main, define_flags)
