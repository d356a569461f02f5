"""Draws the figure for `fidelity`: losses and precisions of each program."""

from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.harness import machine, plots

# The precision shown in the course, and the steps after which it was reached.
COURSE, COURSE_STEPS = 0.610, 1000
KINDS = {"averaged parameters": "precision", "raw parameters": "precision_raw"}

Runs = dict[str, list[dict[str, Any]]]


def draw(record: dict[str, Any]) -> Figure:
    """Draws each program's loss over the steps, and each run's precision."""
    programs: Runs = record["programs"]
    title = "Does training match TensorFlow's tutorial, along the way and at the end?"
    figure = plots.figure(6.2 + 0.45 * len(programs), title)
    top, bottom = figure.subplots(2, 1, height_ratios=[3.8, 1 + 0.45 * len(programs)])
    draw_losses(top, programs)
    precisions = {
        label: {
            # A run may have been evaluated with only one kind of parameters.
            name: [run[key] for run in runs if key in run]
            for name, runs in programs.items()
        }
        for label, key in KINDS.items()
    }
    plots.draw_rows(bottom, precisions)
    if record["max_steps"] == COURSE_STEPS:
        bottom.axvline(COURSE, color="0.4", ls=":", label=f"the course's {COURSE:.3f}")
    bottom.set_xlabel(
        f"precision @ 1 on the test images after {record['max_steps']:,} steps\n"
        f"{plots.dots(programs.values())}\n"
        f"{machine.name(record['machine'])}; {record['data']['source']}"
    )
    figure.legend(
        *bottom.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        frameon=False,
    )
    return figure


def draw_losses(axis: Axes, programs: Runs) -> None:
    """Draws each program's mean loss, and the range of the first program's runs."""
    # In reverse order, since the first colors have other meanings below.
    colors = [style["color"] for style in reversed(plots.STYLES)]
    has_range = False
    for (name, runs), color in zip(programs.items(), colors, strict=False):
        steps, values = losses(runs)
        if not steps:
            continue
        several = len(values) > 1
        label = f"{name}: {'mean, ' if several else ''}n = {len(values)}"
        axis.plot(steps, values.mean(axis=0), color=color, label=label)
        if several and not has_range:
            ends = values.min(axis=0), values.max(axis=0)
            axis.fill_between(steps, *ends, color="0.85", label=f"{name}: range")
            has_range = True
    axis.set(xlabel="step", ylabel="total loss of the step's batch")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)


def losses(
    runs: list[dict[str, Any]],
) -> tuple[list[int], Float[np.ndarray, "runs steps"]]:
    """Returns the steps that all runs logged, and each run's losses.

    Runs without recorded losses are left out.
    """
    logs = [dict(run["loss"]) for run in runs if run["loss"]]
    steps = sorted(set.intersection(*map(set, logs))) if logs else []
    return steps, np.array([[log[step] for step in steps] for log in logs])
