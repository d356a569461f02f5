"""Draws the figure of `experiments.convolution`: grids of numbers with highlights."""

import functools
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments import output

if TYPE_CHECKING:  # that module imports this one at run time
    from experiments.convolution import Example

# Distinguishable in grayscale and with color vision deficiency.
FRAME, MARK, PADDING = "#D55E00", "#FBE3B5", "#E3E3E3"


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
        axis: Axes to draw in.
        values: The numbers, with NaN for padding.
        left: Left edge of the grid.
        top: Top edge of the grid; None centers it at height 0.
        width: Width of a cell.
        fill: The number written on padding; None leaves it blank.
        marked: Cells to highlight with a background color and a frame.
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
        x, y, color = left + width * column, top + row, ground[row, column]
        axis.add_patch(Rectangle((x, y), width, 1, fc=color, ec="#8C8C8C", lw=0.8))
        if not np.isnan(value):
            text = f"{value:g}" if value % 0.25 == 0 else f"{value:.3f}"
            write(axis, x + width / 2, y + 0.5, text)
        elif fill is not None:
            write(axis, x + width / 2, y + 0.5, f"{fill:g}", color="#595959")


def write(axis: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Writes text centered at a point."""
    centered: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 11}
    axis.text(x, y, text, **centered | style)


def draw_example(
    axis: Axes, example: "Example", kernel: Float[np.ndarray, "kh kw"]
) -> None:
    """Draws the padded image, any kernel, the output and the arithmetic."""
    draw_grid(axis, example.padded, 0, fill=example.fill, marked=example.under_window)
    x = float(example.padded.shape[1])
    if example.fill is not None:
        write(axis, x + 0.6, 0, "\N{ASTERISK OPERATOR}", fontsize=20)
        draw_grid(axis, kernel, x + 1.2)
        x += 4.2
    write(axis, x + 0.6, 0, "=", fontsize=20)
    row, column = example.cell
    cell = np.s_[row : row + 1, column : column + 1]
    draw_grid(axis, example.output, x + 1.2, marked=cell)
    finish(axis, example.title, f"{example.arithmetic}\n{example.lesson}")


def draw_classification(axis: Axes, figures: dict[str, Any]) -> None:
    """Draws logits, softmax and each target's loss, highlighting the first."""
    left, width = 2.6, 1.8
    for column, name in enumerate([*figures["classes"], "loss"]):
        write(axis, left + width * (column + 0.5), -3.5, name)
    names = ["logits z", "exp(z)", "softmax p"]
    names += [f"target {name}" for name in figures["classes"]]
    for row, name in enumerate(names):
        write(axis, left - 0.2, row - 2.5, name, ha="right")
    grid = functools.partial(draw_grid, axis, width=width)
    above = [figures[name] for name in ("logits", "exponentials", "softmax")]
    grid(np.array(above), left, -3, marked=np.s_[2:, :1])
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
    """Sets the scale that all panels share, and adds a title and a text below."""
    axis.set(xlim=(-0.2, 17.6), ylim=(5.6, -5), aspect="equal")
    axis.axis("off")
    axis.text(0, -4.9, title, va="top", fontsize=13, fontweight="bold")
    axis.text(0, 3.9, text, va="top", fontsize=11, linespacing=1.5)


def plot(
    panels: list["Example"],
    kernel: Float[np.ndarray, "kh kw"],
    figures: dict[str, Any],
    path: pathlib.Path,
) -> None:
    """Draws all examples."""
    figure = Figure(figsize=(14.5, 13), layout="constrained")
    *axes, last = figure.subplots(3, 2).flat
    for axis, example in zip(axes, panels, strict=True):
        draw_example(axis, example, kernel)
    draw_classification(last, figures)
    output.write_figure(figure, path, dpi=90)
