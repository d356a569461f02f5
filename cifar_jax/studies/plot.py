"""The plot of a study: the precision of each seed, by setting, and of each trial."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cifar_jax.studies.report import Row

# With more settings, their names would not be readable.
MOST = 24
_LONGEST = 60


def as_png(found: Sequence[Row], split: str, searched: bool) -> bytes:
    """Returns the plot as a PNG file; see `draw`."""
    file = io.BytesIO()
    draw(found, split, searched).savefig(file, format="png", dpi=110)
    return file.getvalue()


def draw(found: Sequence[Row], split: str, searched: bool) -> Figure:
    """Returns the plot of the best settings, and of all trials if there was a search.

    Args:
        found: the rows of the table, the best first.
        split: the images of the evaluation.
        searched: whether settings were drawn instead of listed.
    """
    best = [row for row in found if row.summary][:MOST]
    height = 1.2 + 0.3 * max(len(best), 5)
    figure = Figure(figsize=(11 if searched else 8, height), layout="constrained")
    axes = figure.subplots(1, 1 + searched, squeeze=False)[0]
    _draw_settings(axes[0], best, split)
    if searched:
        _draw_trials(axes[1], found, split)
    return figure


def _draw_settings(axis: Axes, best: Sequence[Row], split: str) -> None:
    for place, row in enumerate(best):
        assert row.summary is not None
        values = list(row.precision.values())
        axis.plot(values, [place] * len(values), "o", color="C0", alpha=0.5, ms=5)
        axis.plot(row.summary.mean, place, "|", color="k", ms=14, mew=2)
        if row.summary.interval is not None:
            axis.plot(row.summary.interval, [place] * 2, "-", color="k", lw=1)
    axis.set_yticks(range(len(best)), [_label(row) for row in best], fontsize=8)
    axis.set_ylim(len(best) - 0.3, -0.7)
    axis.set_xlabel(f"{split} precision: seeds, their mean and its 95% interval")
    axis.grid(axis="x", alpha=0.3)


def _label(row: Row) -> str:
    text = ", ".join(f"{name}={value}" for name, value in row.setting.items())
    short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return f"{short}  ({row.number})"


def _draw_trials(axis: Axes, found: Sequence[Row], split: str) -> None:
    ended = sorted((row.number, row.summary.mean) for row in found if row.summary)
    if ended:
        numbers, means = map(np.array, zip(*ended, strict=True))
        axis.plot(numbers, means, "o", color="C0", ms=5)
        axis.step(numbers, np.maximum.accumulate(means), where="post", color="k")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("setting, in the order of the search; line: the best so far")
    axis.set_ylabel(f"{split} precision")
    axis.grid(alpha=0.3)
