"""Draws the figures for `convolution`: grids of numbers with highlights."""

import functools
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.course.worked_example import Example
from experiments.harness import output, plots

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
        fill: The number shown for padding; None leaves it blank.
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
    axis: Axes, example: Example, kernel: Float[np.ndarray, "kh kw"], bias: float
) -> None:
    """Draws the padded image, any kernel and bias, the output and the arithmetic."""
    draw_grid(axis, example.padded, 0, fill=example.fill, marked=example.under_window)
    x = float(example.padded.shape[1])
    if example.fill is not None:
        write(axis, x + 0.6, 0, "\N{ASTERISK OPERATOR}", fontsize=20)
        draw_grid(axis, kernel, x + 1.2)
        write(axis, x + 5.1, 0, f"+ {bias:g}", fontsize=14)
        x += 5.6
    write(axis, x + 0.6, 0, "=", fontsize=20)
    row, column = example.cell
    cell = np.s_[row : row + 1, column : column + 1]
    draw_grid(axis, example.output, x + 1.2, marked=cell)
    # Pools are small, so two of them fill the page width with text at its normal size.
    reach, width = (3.5, 19.4) if example.fill is not None else (1.5, 11)
    text = f"{example.arithmetic}\n{example.lesson}"
    finish(axis, example.title, text, reach, width)


def draw_classification(axis: Axes, figures: dict[str, Any]) -> None:
    """Draws logits, softmax and the losses of two targets, highlighting the first."""
    left, width = 2.6, 1.8
    classes = figures["classes"]
    shown = [classes.index(name) for name in ("ship", "sun")]
    best = shown[0]
    for column, name in enumerate([*classes, "loss"]):
        write(axis, left + width * (column + 0.5), -3.5, name)
    names = ["logits z", "exp(z)", "softmax p"]
    names += [f"target {classes[i]}" for i in shown]
    for row, name in enumerate(names):
        write(axis, left - 0.2, row - 2.5, name, ha="right")
    grid = functools.partial(draw_grid, axis, width=width)
    above = [figures[name] for name in ("logits", "exponentials", "softmax")]
    chosen = slice(best, best + 1)
    grid(np.array(above), left, -3, marked=(slice(2, 3), chosen))
    targets = np.array(figures["targets"])[shown]
    grid(targets, left, 0, marked=(slice(1), chosen))
    losses = np.array(figures["cross_entropy"])[shown, None]
    grid(losses, left + len(classes) * width, 0, marked=np.s_[:1, :1])
    terms = [f"{value:.3f}" for value in figures["exponentials"]]
    total, likely = sum(figures["exponentials"]), f"{figures['softmax'][best]:.3f}"
    finish(
        axis,
        "Softmax, one-hot targets and cross-entropy",
        f"p = {terms[best]} / ({' + '.join(terms)}) = {terms[best]} / {total:.3f} = "
        f"{likely}\nloss = -1 \N{MULTIPLICATION SIGN} ln({likely}) = "
        f"{losses[0, 0]:.3f}: a one-hot target "
        "leaves only the probability of the true class",
    )


def draw_codes(axis: Axes, codes: dict[str, dict[str, list[float]]]) -> None:
    """Draws the codes of categories side by side."""
    left = 1.8
    for values in codes.values():
        top = -3.0
        for row, name in enumerate(values):
            write(axis, left - 0.2, top + row + 0.5, name, ha="right")
        draw_grid(axis, np.array(list(values.values())), left, top)
        left += len(values) + 3.0
    finish(
        axis,
        "One-hot codes",
        "one number per value, and one of them is 1; two values, as for sex,\n"
        "can also be coded by one number: the second is 1 minus the first",
    )


def draw_costs(axis: Axes, costs: list[dict[str, float]]) -> None:
    """Draws the cost of a convolution for each stride."""
    names = [
        "stride",
        "output, n\N{MULTIPLICATION SIGN}n",
        "products, in $10^9$",
        "relative time",
    ]
    left, width = 0.0, 4.2
    for column, name in enumerate(names):
        write(axis, left + width * (column + 0.5), -2.5, name)
    first = costs[0]["milliseconds"]
    rows = [
        [
            cost["stride"],
            cost["size"],
            cost["multiplications"] / 1e9,
            cost["milliseconds"] / first,
        ]
        for cost in costs
    ]
    draw_grid(axis, np.array(rows), left, -2, width=width)
    finish(
        axis,
        "The cost of a stride",
        "128 images of 24x24 pixels with 64 channels, 64 kernels of 5x5:\n"
        "a larger stride computes fewer outputs and is faster",
    )


def finish(
    axis: Axes, title: str, text: str, reach: float = 3.5, width: float = 19.4
) -> None:
    """Adds a title above and text below, and sets the scale shared by the panels.

    Args:
        axis: Axes of the panel.
        title: Name of the panel.
        text: What it shows, in two lines.
        reach: How far the drawing extends above and below 0.
        width: Width of the panel.
    """
    axis.set(xlim=(-0.2, width - 0.2), ylim=(reach + 2.2, -reach - 1.5), aspect="equal")
    axis.axis("off")
    name, found = plots.times(title), plots.times(text)
    axis.text(0, -reach - 1.4, name, va="top", fontsize=13, fontweight="bold")
    axis.text(0, reach + 0.4, found, va="top", fontsize=11, linespacing=1.5)


def plot(
    panels: list[Example],
    kernel: Float[np.ndarray, "kh kw"],
    bias: float,
    figures: dict[str, Any],
    codes: dict[str, dict[str, list[float]]],
    costs: list[dict[str, float]],
    path: pathlib.Path,
) -> None:
    """Draws all examples.

    The file at the path gets the convolutions; files next to it get pooling and
    classification.
    """
    sums = [panel for panel in panels if panel.form == "sum"]
    pools = [panel for panel in panels if panel.form != "sum"]
    draw = functools.partial(draw_example, kernel=kernel, bias=bias)
    figure = Figure(figsize=(14.5, 8.4), layout="constrained")
    *axes, last = figure.subplots(2, 2).flat
    for axis, example in zip(axes, sums, strict=True):
        draw(axis, example)
    draw_costs(last, costs)
    output.write_figure(figure, path, dpi=90)
    figure = Figure(figsize=(plots.WIDTH, 2.7), layout="constrained")
    for axis, example in zip(figure.subplots(1, 2), pools, strict=True):
        draw(axis, example)
    output.write_figure(figure, path.with_stem(f"{path.stem}_pooling"))
    figure = Figure(figsize=(14.5, 4.2), layout="constrained")
    softmax, one_hot = figure.subplots(1, 2)
    draw_classification(softmax, figures)
    draw_codes(one_hot, codes)
    output.write_figure(figure, path.with_stem(f"{path.stem}_softmax"), dpi=90)
