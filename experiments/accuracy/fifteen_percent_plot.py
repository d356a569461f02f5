"""The figure of the 15% study: every trial of its searches."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from experiments.harness import plots


def draw(record: dict[str, Any]) -> Figure:
    """Draws a panel for each search, with every trial and the best accuracy so far."""
    settings, data = record["settings"], record["data"]
    title = "Does Bayesian search find better hyperparameters than chance?"
    figure = plots.figure(4.8, title)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    process, random, published = plots.STYLES[:3]
    for axis, (name, trials), style in zip(
        axes, record["searches"].items(), (random, process), strict=True
    ):
        found = accuracies(trials, of_guess=1 / data["classes"])
        numbers = np.arange(1, len(found) + 1)
        best = np.maximum.accumulate(found)
        axis.plot(numbers, found, ls="", **style)
        axis.step(numbers, best, where="post", color=style["color"])
        line = axis.axhline(found[0], color=published["color"], linestyle="--")
        axis.set(title=name, xlabel="trials")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    _part(axes[1], settings["initial"])
    axes[0].set_ylabel(f"accuracy on {settings['validation_size']:,} held-out images")
    # Leaves room at the top for the labels from `_part`.
    axes[0].set_ylim(0, 1.2 * axes[0].get_ylim()[1])
    gray = "0.3"
    keys = {
        "a trial": Line2D([], [], color=gray, marker="o", ls=""),
        "best so far": Line2D([], [], color=gray),
        "published setting, the first trial": line,
    }
    figure.legend(
        keys.values(),
        keys,
        loc="outside lower center",
        ncols=3,
        frameon=False,
        title=f"up to {settings['max_steps']:,} steps per trial; {data['source']}",
    )
    return figure


def accuracies(trials: list[dict[str, Any]], of_guess: float) -> list[float]:
    """Returns the accuracies of trials in order, a guess for those that diverged."""
    ordered = sorted(trials, key=lambda trial: trial["number"])
    return [
        trial["summary"]["mean"] if trial["summary"] else of_guess for trial in ordered
    ]


def _part(axis: Axes, initial: int) -> None:
    """Separates the trials that start a search from its own."""
    axis.axvline(initial + 0.5, color="0.5", ls=":")
    for side, text in ((-1, f"first {initial}\nin both"), (1, "its own")):
        axis.annotate(
            text,
            (initial + 0.5, 1),
            (6 * side, -6),
            ("data", "axes fraction"),
            "offset points",
            ha="right" if side < 0 else "left",
            va="top",
            fontsize=9,
        )
