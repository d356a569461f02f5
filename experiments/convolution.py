"""What do convolution, padding, stride, pooling and softmax compute?

    python -m experiments.convolution

computes a course's worked examples by the operations the networks use, prints the
arithmetic of one output of each, and writes convolution.json with all numbers and
convolution.png, where that output and what it is made of are marked, to --results_dir.
A few seconds.

As in every library for deep learning a convolution does not turn its kernel round:
an output is the sum of the products of the kernel and the window that lies under it.
"""

import dataclasses
import functools
import json
import pathlib
from typing import Any, Literal

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from absl import app, flags
from flax import linen as nn
from jax import lax
from jaxtyping import Float

from cifar_jax import objective
from cifar_jax.files import write_atomically
from cifar_jax.ops import conv, max_pool

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

RESULTS = pathlib.Path(__file__).parent / "results"
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

# Told apart by the colour-blind, and in grey.
FRAME, MARK, PADDING = "#D55E00", "#FBE3B5", "#E3E3E3"

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class Example:
    """An operation on the image, and one of its outputs to be looked at.

    Attributes:
        title: what the operation is.
        lesson: what is to be seen.
        padded: the image, with NaN where it is padded.
        fill: what padding counts as; None where it is left out.
        window: height and width.
        stride: of the window, down and across.
        output: of the operation.
        cell: row and column of the output that is looked at.
        form: how that output comes of the values under the window.
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
        """Rows and columns of the padded image under the window of the cell."""
        down, right = (
            slice(index * self.stride, index * self.stride + size)
            for index, size in zip(self.cell, self.window, strict=True)
        )
        return down, right

    @property
    def arithmetic(self) -> str:
        """How the output of the cell comes about, in words of arithmetic."""
        window = np.nan_to_num(self.padded[self.under_window])
        values = [f"{value:g}" for value in window.flat]
        text = {
            "sum": " + ".join(values),
            "max": f"max({', '.join(values)})",
            "mean": f"({' + '.join(values)}) / {len(values)}",
        }
        return f"{text[self.form]} = {self.output[self.cell]:g}"

    def record(self) -> dict[str, Any]:
        """All of it for JSON; padding is null in the image."""
        fields = dataclasses.asdict(self) | {"arithmetic": self.arithmetic}
        return {
            name: np.where(np.isnan(value), np.array(None), value).tolist()
            if isinstance(value, np.ndarray)
            else value
            for name, value in fields.items()
        }


def convolve(
    image: Float[np.ndarray, "h w"],
    kernel: Float[np.ndarray, "kh kw"],
    stride: int,
    padding: str,
) -> Float[np.ndarray, "out_h out_w"]:
    """Convolution of an image of one channel.

    Args:
        image: of any size.
        kernel: of odd height and width.
        stride: down and across.
        padding: "SAME" or "VALID".
    """
    x, weights = jnp.asarray(image[..., None, None]), jnp.asarray(kernel)
    weights = weights[..., None, None]
    if stride == 1 and padding == "SAME":
        y = conv(x, weights)
    else:
        layouts = ("HWCN", "HWIO", "HWCN")
        y = lax.conv_general_dilated(
            x, weights, (stride, stride), padding, dimension_numbers=layouts
        )
    return np.asarray(y)[..., 0, 0]


def mean_pool(
    image: Float[np.ndarray, "h w"], size: int
) -> Float[np.ndarray, "out_h out_w"]:
    """Means of windows side by side, at the border of what lies in the image."""
    window = (size, size)
    y = nn.avg_pool(
        jnp.asarray(image[None, ..., None]),
        window,
        window,
        "SAME",
        count_include_pad=False,
    )
    return np.asarray(y)[0, ..., 0]


def pad(
    image: Float[np.ndarray, "h w"], window: tuple[int, int], stride: int, padding: str
) -> Float[np.ndarray, "padded_h padded_w"]:
    """The image with NaN around it where the operation pads it."""
    pads = lax.padtype_to_pads(image.shape, window, (stride, stride), padding)
    return np.pad(image, pads, constant_values=np.nan)


def examples() -> list[Example]:
    """Those of convolution and pooling."""

    def convolution(
        title: str, lesson: str, padding: str, stride: int, cell: tuple[int, int]
    ) -> Example:
        padded = pad(IMAGE, KERNEL.shape, stride, padding)
        output = convolve(IMAGE, KERNEL, stride, padding)
        return Example(
            title, lesson, padded, 0, KERNEL.shape, stride, output, cell, "sum"
        )

    def pooling(output: np.ndarray, form: Literal["max", "mean"]) -> Example:
        title = f"2x2 {form} pooling, stride 2"
        lesson = "a window that sticks out takes the values it has: 5x5 becomes 3x3"
        padded = pad(IMAGE, (2, 2), 2, "SAME")
        return Example(title, lesson, padded, None, (2, 2), 2, output, (1, 0), form)

    maxima = np.asarray(max_pool(jnp.asarray(IMAGE[..., None, None]), (2, 2), (2, 2)))
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
        pooling(maxima[..., 0, 0], "max"),
        pooling(mean_pool(IMAGE, 2), "mean"),
    ]


def classification() -> dict[str, Any]:
    """Softmax of three logits, and the cross-entropy with each one-hot target."""
    logits = jnp.asarray(LOGITS)
    labels = jnp.arange(len(CLASSES))
    losses = [objective.cross_entropy(logits[None], label[None]) for label in labels]
    return {
        "classes": CLASSES,
        "logits": LOGITS.tolist(),
        "exponentials": np.exp(LOGITS).tolist(),
        "softmax": jax.nn.softmax(logits).tolist(),
        "targets": jax.nn.one_hot(labels, len(CLASSES)).tolist(),
        "cross_entropy": [float(loss) for loss in losses],
    }


def draw_grid(
    axis: Axes,
    values: Float[np.ndarray, "h w"],
    left: float,
    top: float | None = None,
    *,
    width: float = 1,
    fill: float | None = None,
    marked: tuple[slice, slice] | None = None,
) -> None:
    """Draws numbers in cells of height 1.

    Args:
        axis: to draw in.
        values: NaN where padding lies.
        left: where the grid begins.
        top: where it begins; None: its middle is at height 0.
        width: of a cell.
        fill: what is written on padding; None: nothing.
        marked: the cells on a ground of their own and with a frame around them.
    """
    top = -values.shape[0] / 2 if top is None else top
    ground = np.full(values.shape, "white", object)
    ground[np.isnan(values)] = PADDING
    if marked is not None:
        ground[marked] = MARK
        rows, columns = np.nonzero(ground == MARK)
        corner = (left + width * columns.min(), top + rows.min())
        size = (width * float(np.ptp(columns) + 1), float(np.ptp(rows) + 1))
        axis.add_patch(Rectangle(corner, *size, fill=False, ec=FRAME, lw=2.5, zorder=3))
    for (row, column), value in np.ndenumerate(values):
        x, y, colour = left + width * column, top + row, ground[row, column]
        axis.add_patch(Rectangle((x, y), width, 1, fc=colour, ec="#8C8C8C", lw=0.8))
        if not np.isnan(value):
            text = f"{value:g}" if value % 0.25 == 0 else f"{value:.3f}"
            write(axis, x + width / 2, y + 0.5, text)
        elif fill is not None:
            write(axis, x + width / 2, y + 0.5, f"{fill:g}", color="#595959")


def write(axis: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Writes around a place."""
    centred: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 11}
    axis.text(x, y, text, **centred | style)


def draw_example(axis: Axes, example: Example) -> None:
    """The padded image, the kernel if there is one, the output, and the arithmetic."""
    draw_grid(axis, example.padded, 0, fill=example.fill, marked=example.under_window)
    x = float(example.padded.shape[1])
    if example.fill is not None:
        write(axis, x + 0.6, 0, "\N{ASTERISK OPERATOR}", fontsize=20)
        draw_grid(axis, KERNEL, x + 1.2)
        x += 4.2
    write(axis, x + 0.6, 0, "=", fontsize=20)
    row, column = example.cell
    cell = np.s_[row : row + 1, column : column + 1]
    draw_grid(axis, example.output, x + 1.2, marked=cell)
    finish(axis, example.title, f"{example.arithmetic}\n{example.lesson}")


def draw_classification(axis: Axes, figures: dict[str, Any]) -> None:
    """Logits, softmax and the loss with each target, of which the first is marked."""
    left, width = 2.6, 1.8
    for column, name in enumerate([*figures["classes"], "loss"]):
        write(axis, left + width * (column + 0.5), -3.5, name)
    names = ["logits z", "exp(z)", "softmax p"]
    names += [f"target {name}" for name in figures["classes"]]
    for row, name in enumerate(names):
        write(axis, left - 0.2, row - 2.5, name, ha="right")
    grid = functools.partial(draw_grid, axis, width=width)
    grid(np.array([figures["logits"], figures["exponentials"]]), left, -3)
    grid(np.array([figures["softmax"]]), left, -1, marked=np.s_[:1, :1])
    grid(np.array(figures["targets"]), left, 0, marked=np.s_[:1, :1])
    losses = np.array(figures["cross_entropy"])[:, None]
    grid(losses, left + 3 * width, 0, marked=np.s_[:1, :1])
    terms = [f"{value:.4g}" for value in figures["exponentials"]]
    likely = f"{figures['softmax'][0]:.3f}"
    finish(
        axis,
        "Softmax, one-hot targets and cross-entropy",
        f"p = {terms[0]} / ({' + '.join(terms)}) = {likely},  "
        f"loss = -1 x ln({likely}) = {losses[0, 0]:.3f}\n"
        "a one-hot target leaves only the probability of the true class",
    )


def finish(axis: Axes, title: str, text: str) -> None:
    """Gives all panels the same scale, a title and a text below."""
    axis.set(xlim=(-0.2, 17.6), ylim=(5.6, -5), aspect="equal")
    axis.axis("off")
    axis.text(0, -4.9, title, va="top", fontsize=13, fontweight="bold")
    axis.text(0, 3.9, text, va="top", fontsize=11, linespacing=1.5)


def plot(panels: list[Example], figures: dict[str, Any], path: pathlib.Path) -> None:
    """Draws all examples."""
    figure, axes = plt.subplots(3, 2, figsize=(14.5, 13), layout="constrained")
    for axis, example in zip(axes.flat, panels, strict=False):
        draw_example(axis, example)
    draw_classification(axes.flat[-1], figures)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main(argv: list[str]) -> None:
    """Computes, prints, draws and keeps."""
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
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "convolution.json"
    write_atomically(file, json.dumps(record, indent=1) + "\n")
    plot(panels, figures, file.with_suffix(".png"))


def _define_flags() -> None:
    flags.DEFINE_string(
        "results_dir", str(RESULTS), "Where the JSON and the picture go."
    )


if __name__ == "__main__":
    _define_flags()
    app.run(main)
