"""What experiments.bayesian_search has found: trials, tables and the picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments import output, plots, runs
from experiments.jobs import Job

METHODS = PUBLISHED, RANDOM, PROCESS = "published", "random", "Gaussian process"


def trials(known: Sequence[Job], method: str, initial: int) -> list[Job]:
    """Returns a method's trials in order; the `initial` random ones are of both."""
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
    """Returns a row of the table for each job."""
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
    """Draws every trial, and the best accuracy of each search so far."""
    jobs = [Job(row["job"], row, row) for row in record["jobs"]]
    initial = record["settings"]["initial"]
    title = "Does a Gaussian process find better hyperparameters than chance?"
    figure = plots.figure(5.2, title)
    axes = figure.subplots()
    process, random, published = plots.STYLES[:3]
    for method, style, width in ((RANDOM, random, 5), (PROCESS, process, 2)):
        found = [accuracy(job) for job in trials(jobs, method, initial)]
        numbers = np.arange(1, len(found) + 1)
        size = {"ms": width + 4}
        axes.plot(numbers, found, ls="", label=f"{method}: a trial", **style | size)
        axes.step(
            numbers,
            np.maximum.accumulate(found),
            where="post",
            color=style["color"],
            linewidth=width,
            label=f"{method}: best so far",
        )
    level = accuracy(best(trials(jobs, PUBLISHED, initial)))
    label = "published setting (n = 1)"
    axes.axhline(level, color=published["color"], linestyle="--", label=label)
    axes.axvline(initial + 0.5, color="0.6")
    axes.set(
        xlabel="trials; those before the line are the same random ones for both",
        ylabel=f"accuracy on {record['settings']['validation_size']:,} held-out images",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(
        loc="outside lower center",
        ncols=3,
        frameon=False,
        title=f"{record['settings']['max_steps']:,} steps a trial; "
        f"{record['data']['source']}",
    )
    return figure
