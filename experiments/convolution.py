"""What do convolution, padding, stride, pooling and softmax compute?

    python -m experiments.convolution

Computes a course's worked examples with the operations that the networks use, prints
the arithmetic of one output of each, and writes convolution.json, with all numbers, and
convolution.png, where that output and its inputs are highlighted, to --results_dir.
Takes a few seconds.

As in every deep learning library, convolution does not flip its kernel: an output is
the sum of the products of the kernel and the window below it.
"""

import dataclasses
import pathlib
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
from experiments import common, output
from experiments.convolution_picture import plot

IMAGE = np.array(
    [
        [1, 2, 0, 3, 1],
        [0, 4, 2, 1, 5],
        [3, 1, 0, 2, 2],
        [2, 0, 5, 1, 4],
        [1, 3, 2, 0, 6],
    ],
    np.float32,
)
KERNEL = np.ones((3, 3), np.float32)
CLASSES = ("cat", "dog", "ship")
LOGITS = np.array([2, 1, 0], np.float32)

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class Example:
    """An operation on the image, and one of its outputs to look at.

    Attributes:
        title: Name of the operation.
        lesson: What the example shows.
        padded: The image, with NaN where it is padded.
        fill: The value of the padding; None if padding is ignored.
        window: Height and width of the window.
        stride: Vertical and horizontal stride of the window.
        output: Output of the operation.
        cell: Row and column of the highlighted output.
        form: How that output is computed from the values in the window.
    """

    title: str
    lesson: str
    padded: Float[np.ndarray, "padded_h padded_w"]
    fill: float | None
    window: tuple[int, int]
    stride: int
    output: Float[np.ndarray, "out_h out_w"]
    cell: tuple[int, int]
    form: Literal["sum", "max", "mean"]

    @property
    def under_window(self) -> tuple[slice, slice]:
        """Rows and columns of the padded image in the window of the cell."""
        top, left = (self.stride * index for index in self.cell)
        height, width = self.window
        return np.s_[top : top + height, left : left + width]

    @property
    def arithmetic(self) -> str:
        """The calculation of the highlighted output as text."""
        window = np.nan_to_num(self.padded[self.under_window])
        values = [f"{value:g}" for value in window.flat]
        text = {
            "sum": " + ".join(values),
            "max": f"max({', '.join(values)})",
            "mean": f"({' + '.join(values)}) / {len(values)}",
        }
        return f"{text[self.form]} = {self.output[self.cell]:g}"

    def record(self) -> dict[str, Any]:
        """Returns all fields as JSON values; padding is null in the image."""
        padded = np.where(np.isnan(self.padded), np.array(None), self.padded)
        return vars(self) | {
            "padded": padded.tolist(),
            "output": self.output.tolist(),
            "arithmetic": self.arithmetic,
        }


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
    padded = pad(3, stride, padding)
    return Example(title, lesson, padded, 0, (3, 3), stride, np.array(y), cell, "sum")


def pooling(form: Literal["max", "mean"]) -> Example:
    """Returns an example of pooling, in which padding is ignored."""
    image, window = jnp.asarray(IMAGE), (2, 2)
    if form == "max":
        y = max_pool(image[..., None, None], window, window)[..., 0, 0]
    else:
        y = nn.avg_pool(
            image[None, ..., None], window, window, "SAME", count_include_pad=False
        )[0, ..., 0]
    title = f"2x2 {form} pooling, stride 2"
    lesson = "a window that sticks out takes the values it has: 5x5 becomes 3x3"
    padded = pad(2, 2, "SAME")
    return Example(title, lesson, padded, None, window, 2, np.array(y), (1, 0), form)


def examples() -> list[Example]:
    """Returns the examples of convolution and pooling."""
    return [
        convolution(
            "Convolution without padding (VALID), stride 1",
            "the window stays inside, so the border is lost: 5x5 becomes 3x3",
            "VALID",
            stride=1,
            cell=(0, 1),
        ),
        convolution(
            "Zero padding (SAME), stride 1",
            "the size stays 5x5, but sums at the border are smaller: they have zeros",
            "SAME",
            stride=1,
            cell=(0, 0),
        ),
        convolution(
            "Zero padding (SAME), stride 3",
            "the window moves on by 3: 5x5 becomes 2x2, with zeros at one end only",
            "SAME",
            stride=3,
            cell=(0, 1),
        ),
        pooling("max"),
        pooling("mean"),
    ]


def classification() -> dict[str, Any]:
    """Returns the softmax of three logits and the loss for each one-hot target."""
    logits = jnp.asarray(LOGITS)
    labels = jnp.arange(len(CLASSES))
    losses = [CrossEntropy()(logits[None], label[None]) for label in labels]
    return {
        "classes": CLASSES,
        "logits": LOGITS.tolist(),
        "exponentials": np.exp(LOGITS).tolist(),
        "softmax": jax.nn.softmax(logits).tolist(),
        "targets": jax.nn.one_hot(labels, len(CLASSES)).tolist(),
        "cross_entropy": [float(loss) for loss in losses],
    }


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_string("results_dir", str(output.DIRECTORY), "Directory for results.")


def main(argv: list[str]) -> None:
    """Computes, prints, saves and draws the examples."""
    del argv
    panels, figures = examples(), classification()
    for example in panels:
        print(f"{example.title}\n{example.output}\n{example.arithmetic}\n")
    print("Softmax and cross-entropy")
    for name, values in figures.items():
        print(f"{name}: {values}")
    record = {
        "image": IMAGE.tolist(),
        "kernel": KERNEL.tolist(),
        "examples": [example.record() for example in panels],
        "classification": figures,
    }
    directory = pathlib.Path(FLAGS.results_dir)
    file = directory / "convolution.json"
    output.write(record, file)
    plot(panels, KERNEL, figures, file.with_suffix(".png"))


if __name__ == "__main__":
    common.run(main, define_flags)
