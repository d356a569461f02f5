"""Draws the figure of `experiments.noise`: precision by strength, and examples."""

import pathlib
import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import output
from experiments.corruptions import CORRUPTIONS, Images

LEVELS = range(6)
# Colors of Okabe and Ito, each with a marker.
STYLES = (
    ("#0072B2", "o"),
    ("#D55E00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#000000", "v"),
)


def draw_strip(axis: Axes, images: Images, corruption: str, seed: int) -> None:
    """Shows images at each strength, aligned with the axis below."""
    for level in LEVELS:
        corrupted = CORRUPTIONS[corruption].at(images, level, seed)
        for row, image in enumerate(corrupted):
            extent = (level - 0.47, level + 0.47, row + 0.47, row - 0.47)
            axis.imshow(image, extent=extent, interpolation="nearest")
    axis.set(
        xlim=(-0.5, 5.5), ylim=(len(images) - 0.5, -0.5), aspect="equal", anchor="S"
    )
    axis.axis("off")
    axis.set_title(corruption, fontweight="bold")


def draw_panel(
    axis: Axes, cases: list[dict[str, Any]], corruption: str, chance: float
) -> None:
    """Plots the precision of each network against the strength."""
    shown = [case for case in cases if case["corruption"] in ("none", corruption)]
    names = dict.fromkeys(case["network"] for case in shown)
    for name, (color, marker) in zip(names, STYLES, strict=False):
        line = [case for case in shown if case["network"] == name]
        axis.errorbar(
            [case["level"] for case in line],
            [case["precision"] for case in line],
            [case["standard_error"] for case in line],
            color=color,
            marker=marker,
            markersize=5,
            capsize=2,
            label=name,
        )
    axis.axhline(chance, color="#595959", ls=":", label="chance")
    of = CORRUPTIONS[corruption]
    axis.set_xticks(LEVELS, ["none", *(f"{value:g}" for value in of.strengths)])
    axis.set(xlim=(-0.5, 5.5), ylim=(0, 1), xlabel=of.parameter, ylabel="precision @ 1")
    axis.grid(alpha=0.3)


def plot(
    cases: list[dict[str, Any]],
    examples: Images,
    seed: int,
    chance: float,
    note: str,
    path: pathlib.Path,
) -> None:
    """Draws a panel for each corruption, below example images at each strength."""
    figure = Figure(figsize=(17, 8), layout="constrained")
    cells = figure.subfigures(2, 4, squeeze=False).flat
    for cell, corruption in zip(cells, CORRUPTIONS, strict=False):
        strip, panel = cell.subplots(2, 1, height_ratios=[1, 2])
        draw_strip(strip, examples, corruption, seed)
        draw_panel(panel, cases, corruption, chance)
    last = cells[len(CORRUPTIONS)]
    last.legend(*panel.get_legend_handles_labels(), loc="upper left", frameon=False)
    last.text(0.05, 0.1, textwrap.fill(f"{note}. Bars are standard errors.", 40))
    output.write_figure(figure, path, dpi=100)
