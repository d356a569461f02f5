"""Results of the Bayesian search: trials, tables and the figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from experiments.harness import output, plots, runs
from experiments.harness.jobs import Job

METHODS = PUBLISHED, RANDOM, PROCESS = "published", "random", "Gaussian process"


def trials(known: Sequence[Job], method: str, initial: int) -> list[Job]:
    """Returns a method's trials in order; both share the `initial` random ones."""
    return [
        job
        for job in sorted(known, key=lambda job: job.task.get("number", -1))
        if job.task.get("method") == method
        or (
            method == PROCESS
            and job.task.get("method") == RANDOM
            and job.task["number"] < initial
        )
    ]


def best(finished: Sequence[Job]) -> Job:
    """Returns the trial with the highest accuracy on the validation images."""
    return max(finished, key=accuracy)


def accuracy(job: Job) -> float:
    """Returns the accuracy on the validation images."""
    assert job.result is not None
    return job.result["validation_accuracy"]


def rows(known: Sequence[Job]) -> list[dict[str, Any]]:
    """Returns a table row for each job."""
    figures = ("validation_accuracy", "test_accuracy", "seconds")
    return [
        {"job": job.name, **job.task["setting"]}
        | {name: (job.result or {}).get(name, "") for name in figures}
        for job in known
    ]


def summary(finished: Sequence[Job], initial: int) -> str:
    """Returns the final accuracies as a table."""
    lines = []
    for method in METHODS:
        chosen = best(trials(finished, method, initial))
        found = [
            job.result["test_accuracy"]
            for job in finished
            if job.result is not None and job.task.get("final") == method
        ]
        lines.append((method, f"{accuracy(chosen):.4f}", runs.mean(found, 4)))
    return output.table(("setting", "validation", "test"), lines)


def draw(record: dict[str, Any]) -> Figure:
    """Draws a panel for each search, with every trial and the best accuracy so far."""
    jobs = [Job(row["job"], row, row) for row in record["jobs"]]
    initial = record["settings"]["initial"]
    title = "Does a Gaussian process find better hyperparameters than chance?"
    figure = plots.figure(4.8, title)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    process, random, published = plots.STYLES[:3]
    level = accuracy(best(trials(jobs, PUBLISHED, initial)))
    for axis, method, style in zip(
        axes, (RANDOM, PROCESS), (random, process), strict=True
    ):
        found = [accuracy(job) for job in trials(jobs, method, initial)]
        numbers = np.arange(1, len(found) + 1)
        axis.plot(numbers, found, ls="", **style)
        axis.step(
            numbers, np.maximum.accumulate(found), where="post", color=style["color"]
        )
        line = axis.axhline(level, color=published["color"], linestyle="--")
        axis.set(title=method, xlabel="trials")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    _part(axes[1], initial)
    axes[0].set_ylabel(
        f"accuracy on {record['settings']['validation_size']:,} held-out images"
    )
    # Leaves room at the top for the labels from `_part`.
    axes[0].set_ylim(0, 1.2 * axes[0].get_ylim()[1])
    gray = "0.3"
    keys = {
        "a trial": Line2D([], [], color=gray, marker="o", ls=""),
        "best so far": Line2D([], [], color=gray),
        "published setting (n = 1)": line,
    }
    figure.legend(
        keys.values(),
        keys,
        loc="outside lower center",
        ncols=3,
        frameon=False,
        title=f"{record['settings']['max_steps']:,} steps per trial; "
        f"{record['data']['source']}",
    )
    return figure


def _part(axis: Axes, initial: int) -> None:
    """Separates the random trials that start a search from its own."""
    axis.axvline(initial + 0.5, color="0.5", ls=":")
    for side, text in ((-1, f"first {initial}\nare random"), (1, "its own")):
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
