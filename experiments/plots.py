"""The style that all pictures of the experiments share."""

from collections.abc import Collection
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Colors of Okabe and Ito, which color-blind readers can tell apart, without their
# yellow, which is too faint on white; each with a marker.
STYLES: tuple[dict[str, Any], ...] = tuple(
    {"color": color, "marker": marker, "mec": "none", "alpha": 0.7}
    for color, marker in (
        ("#0072B2", "o"),
        ("#D55E00", "s"),
        ("#009E73", "^"),
        ("#CC79A7", "D"),
        ("#E69F00", "P"),
        ("#56B4E9", "X"),
        ("#000000", "v"),
    )
)
# In inches. Written with 110 dots per inch, a figure of this width fills the page on
# which README files are shown, so that text keeps its size.
WIDTH = 8.0


def figure(height: float, title: str) -> Figure:
    """Returns an empty figure with a title.

    Args:
        height: In inches.
        title: The question that the picture answers, or the finding.
    """
    made = Figure(figsize=(WIDTH, height), layout="constrained")
    made.suptitle(title, fontsize=12)
    return made


def count(groups: Collection[Collection]) -> str:
    """Returns how many runs the groups have, such as "n = 3" or "n = 1 to 3"."""
    sizes = [len(group) for group in groups]
    low, high = min(sizes), max(sizes)
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def dots(rows: Collection[Collection]) -> str:
    """Returns what the dots and lines of `draw_rows` mean."""
    line = ", a line the mean" if max(map(len, rows)) > 1 else ""
    return f"a dot is a run ({count(rows)} per row){line}"


def draw_rows(axis: Axes, series: dict[str, dict[str, list[float]]]) -> None:
    """Draws a row for each name: its values as dots, the mean of several as a line.

    Args:
        axis: where to draw.
        series: the values by the label of the legend, and then by the name of the row.
    """
    offsets = np.linspace(-0.12, 0.12, len(series))
    for (label, rows), style, offset in zip(
        series.items(), STYLES, offsets, strict=False
    ):
        for y, values in enumerate(rows.values()):
            axis.plot(values, [y + offset] * len(values), ls="", **style)
            if len(values) > 1:
                ends = [y + offset - 0.2, y + offset + 0.2]
                axis.plot([np.mean(values)] * 2, ends, color=style["color"], lw=2)
        axis.plot([], [], ls="", label=label, **style)
    names = list(next(iter(series.values())))
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(axis="x", alpha=0.3)
