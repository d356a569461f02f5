"""Draws the figure for `noise`: precision by strength, and examples."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.course.corruptions import CORRUPTIONS, Images
from experiments.harness import plots

LEVELS = range(6)
COLUMNS = 2
# Half-width of a 95% interval, in standard errors.
INTERVAL = 1.96
# Half-height of a dot, on the precision axis.
DOT = 0.025


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
    """Draws each network's precision over the strength."""
    shown = [case for case in cases if case["corruption"] in ("none", corruption)]
    names = dict.fromkeys(case["network"] for case in shown)
    for name, style in zip(names, plots.STYLES, strict=False):
        line = [case for case in shown if case["network"] == name]
        axis.errorbar(
            [case["level"] for case in line],
            [case["precision"] for case in line],
            [INTERVAL * case["standard_error"] for case in line],
            capsize=4,
            label=name,
            **style,
        )
    axis.axhline(chance, color="#595959", ls=":", label="chance")
    of = CORRUPTIONS[corruption]
    axis.set_xticks(LEVELS, ["none", *(f"{value:g}" for value in of.strengths)])
    axis.set(xlim=(-0.5, 5.5), ylim=(0, 1), xlabel=of.parameter, ylabel="precision @ 1")
    axis.grid(alpha=0.3)


def draw(record: dict[str, Any], examples: Images, chance: float) -> Figure:
    """Draws a panel for each corruption, below example images at each strength.

    Args:
        record: The experiment's record.
        examples: Test images to show.
        chance: The precision of guessing.
    """
    cases = record["cases"]
    found = {case["corruption"] for case in cases}
    measured = [corruption for corruption in CORRUPTIONS if corruption in found]
    rows = -(-len(measured) // COLUMNS)
    title = "Does a little noise barely hurt?"
    figure = plots.figure(0.9 + 3.4 * rows, title)
    grid = figure.add_gridspec(2 * rows, COLUMNS, height_ratios=[2, 3] * rows)
    for place, corruption in enumerate(measured):
        row, column = divmod(place, COLUMNS)
        strip = figure.add_subplot(grid[2 * row, column])
        panel = figure.add_subplot(grid[2 * row + 1, column])
        draw_strip(strip, examples, corruption, record["seed"])
        draw_panel(panel, cases, corruption, chance)
    widest = INTERVAL * max(case["standard_error"] for case in cases)
    hidden = ", smaller than the dots" if widest < DOT else ""
    figure.legend(
        *panel.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        title=f"{record['images']:,} test images, {record['data']}\n"
        f"bars: 95% intervals, at most \u00b1{widest:.3f}{hidden}; n = 1 run each",
    )
    return figure
