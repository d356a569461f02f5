"""The table and plot for experiments.accuracy.sprint."""

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.harness import machine, output, plots, runs

# The last line of an original run: accuracy with six views, and seconds.
_ORIGINAL = re.compile(r"\|\s+eval\s+\|.*\|\s+([01]\.\d+)\s+\|\s+(\d+\.\d+)\s+\|$")
# Table columns for the times in the results.
_TIMES = {
    "train_seconds": "training, s",
    "seconds_with_evaluation": "with evaluation",
    "train_command_seconds": "train command",
    "eval_command_seconds": "eval command",
}


def original_results(lines: Sequence[tuple[float, str]]) -> list[dict[str, float]]:
    """Returns the results of each run of Jordan's program, including the first.

    Args:
        lines: The program's output lines, each with the seconds since its start.
    """
    return [
        {
            "accuracy": float(found[1]),
            "seconds_with_evaluation": float(found[2]),
            "ended": seconds,
        }
        for seconds, line in lines
        if (found := _ORIGINAL.search(line.strip()))
    ]


def table(records: list[dict[str, Any]]) -> str:
    """Returns a table of medians and ranges, with a row for each record."""
    times = [name for name in _TIMES if any(name in r["results"][0] for r in records)]
    rows = []
    for record in records:
        accuracies = [result["accuracy"] for result in record["results"]]
        rows.append(
            [
                f"`{record['name']}`",
                str(len(accuracies)),
                f"{100 * np.mean(accuracies):.2f}%",
                f"{100 * runs.deviation(accuracies):.2f}"
                if len(accuracies) > 1
                else "",
                f"{100 * min(accuracies):.2f} to {100 * max(accuracies):.2f}",
                *(_interval(record["results"], name) for name in times),
                _seconds(record.get("compile_seconds")),
            ]
        )
    header = ["run", "seeds", "accuracy", "sd", "range"]
    header += [_TIMES[name] for name in times]
    return output.table([*header, "compilation"], rows)


def draw(record: dict[str, Any]) -> Figure:
    """Draws the accuracy of each seed against its time."""
    title = "How accurate does a network get, and how fast?"
    figure = plots.figure(5, title)
    axis = figure.subplots()
    used, labels = set(), []
    for run, style in zip(record["runs"], itertools.cycle(plots.STYLES), strict=False):
        results = run["results"]
        of_programs = "seconds_with_evaluation" in results[0]
        time = "seconds_with_evaluation" if of_programs else "train_seconds"
        used.add("training and evaluation" if of_programs else "training")
        seconds = [result[time] for result in results]
        accuracies = [100 * result["accuracy"] for result in results]
        name = run["name"].replace(" --", "\n--")
        label = f"{name}\n{np.mean(accuracies):.2f}% (n = {len(results)})"
        labels.append((float(np.mean(accuracies)), label, style))
        axis.plot(seconds, accuracies, ls="", **style)
        if len(results) > 1:
            middle = np.median(seconds), np.mean(accuracies)
            axis.plot(*middle, **style | {"ms": 11, "mec": "black", "alpha": 1})
    axis.set_xlabel(f"seconds of {', or of '.join(sorted(used))}, log scale")
    axis.set_ylabel("accuracy on the test set, %")
    plots.logarithmic(axis)
    axis.grid(alpha=0.3)
    plots.label_at_right(figure, axis, labels)
    figure.supxlabel(
        "small: runs; large: their mean accuracy and median time\n"
        f"{machine.name(record['machine'])}",
        fontsize=10,
    )
    return figure


def _interval(results: list[dict[str, Any]], name: str) -> str:
    """Returns the median and range of a time as a table cell."""
    if name not in results[0]:
        return ""
    seconds = [result[name] for result in results]
    ends = f"{_seconds(min(seconds))}-{_seconds(max(seconds))}"
    return f"{_seconds(np.median(seconds))} ({ends})"


def _seconds(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 20 else f"{value:.2f}"
