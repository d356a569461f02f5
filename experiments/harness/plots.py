"""The style shared by the figures of all experiments."""

import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from matplotlib.transforms import offset_copy

# The colors of Okabe and Ito, which color-blind readers can tell apart, each with a
# marker. Their yellow is left out: it is too faint on white.
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
# In inches. At 110 dots per inch, a figure of this width fills the page on which README
# files are shown, so that text keeps its size.
WIDTH = 8.0


def figure(height: float, title: str) -> Figure:
    """Returns an empty figure with a title.

    Args:
        height: In inches.
        title: The question that the figure answers, or the finding.
    """
    made = Figure(figsize=(WIDTH, height), layout="constrained")
    made.suptitle(title, fontsize=12)
    return made


def times(text: str) -> str:
    """Returns the text with a multiplication sign in sizes such as 24x24."""
    return re.sub(r"(?<=\d)x(?=-?\d)", "\N{MULTIPLICATION SIGN}", text)


def count(groups: Collection[Collection[Any]]) -> str:
    """Returns the number of runs per group, such as "n = 3" or "n = 1 to 3"."""
    sizes = [len(group) for group in groups]
    low, high = min(sizes), max(sizes)
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def dots(rows: Collection[Collection[Any]]) -> str:
    """Returns what the dots and lines of `draw_rows` mean."""
    line = ", a line the mean" if max(map(len, rows)) > 1 else ""
    return f"a dot is a run ({count(rows)} per row){line}"


def logarithmic(axis: Axes) -> None:
    """Makes a panel's x axis logarithmic, with a few plain numbers as labels."""
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:,g}")
    axis.minorticks_off()


def label_at_right(
    made: Figure, axis: Axes, labels: Sequence[tuple[float, str, dict[str, Any]]]
) -> None:
    """Writes labels to the right of a panel, as close to their heights as they fit.

    Args:
        made: The figure.
        axis: Its last panel, with its final limits.
        labels: For each label, its height in axis units, its text and one of STYLES.
    """
    low, high = axis.get_ylim()
    ordered = sorted(labels, key=lambda label: label[0])
    heights = [(height - low) / (high - low) for height, _, _ in ordered]
    lines = 1 + max(text.count("\n") for _, text, _ in labels)
    gap = (0.2 * lines + 0.05) / made.get_figheight()
    places = list(heights)
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    places[-1] = min(places[-1], 1 - gap / 2)
    for i in reversed(range(len(places) - 1)):
        places[i] = min(places[i], places[i + 1] - gap)
    marked, written = (
        offset_copy(axis.transAxes, made, points, units="points") for points in (18, 28)
    )
    for (_, text, style), height, place in zip(ordered, heights, places, strict=True):
        leader = {"arrowstyle": "-", "color": style["color"], "shrinkA": 0}
        ends = (1, height), (1, place)
        axis.annotate("", *ends, "axes fraction", marked, arrowprops=leader)
        axis.plot([1], [place], ls="", transform=marked, clip_on=False, **style)
        axis.text(1, place, text, va="center", fontsize=9, transform=written)


def draw_rows(axis: Axes, series: dict[str, dict[str, list[float]]]) -> None:
    """Draws a row for each name: its values as dots, and a line at their mean.

    Args:
        axis: Where to draw.
        series: The values by legend label, then by row name.
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
