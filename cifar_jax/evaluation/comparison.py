"""Compares runs by their settings, speed and precision.

`compare` reduces the files of each run to a few values, ready for JSON. The table in
comparison_table.py and the plot in comparison_plot.py show these.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cifar_jax.config.config import Config
from cifar_jax.config.conflicts import find_differing
from cifar_jax.errors import UserError
from cifar_jax.metrics.scores import wilson_interval
from cifar_jax.optimization.averages import LOSS_AVERAGE_DECAY
from cifar_jax.runs import checkpoints, records
from cifar_jax.runs.run_dir import Run

# Points on a loss curve; with more, the noise of single batches would hide it.
_POINTS = 200
SPLITS = ("test", "validation")
# The generator named in comparison plots, and the most runs that they can show.
GENERATOR = "python -m cifar_jax.compare --plot"
MOST_CURVES = 8
# The locations of a run and its data do not matter; the pixels are compared instead.
_PLACES = ("train_dir", "data_dir")
# The contents of an evaluation other than the metrics in --eval_metrics.
_KNOWN = {
    *("step", "time", "precision_at_1", "num_examples", "examples_in_split"),
    *("largest_class", "predicted_classes", "fingerprint"),
}
Compared = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class History:
    """The history of a run, as recorded on disk.

    Attributes:
        run: its config and data.
        saved: the step of its newest checkpoint, or None.
        training: its summaries; see `records.training`.
        evaluations: its evaluations for each of SPLITS; see `records.evaluations`.
        log: the numbers in its log; see `records.log`.
    """

    run: Run
    saved: int | None
    training: list[dict[str, Any]]
    evaluations: dict[str, list[dict[str, Any]]]
    log: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def read(run: Run) -> History:
    """Reads the history of a run from disk.

    Raises:
        UserError: a file cannot be read or is damaged.
    """
    try:
        saved = checkpoints.steps(run.checkpoints, run.id)
        return History(
            run,
            saved[-1] if saved else None,
            records.training(run),
            {split: records.evaluations(run, split) for split in SPLITS},
            records.log(run),
        )
    except OSError as error:
        where = error.filename or run.path
        raise UserError(f"cannot read {where}: {error.strerror}") from None


def compare(histories: Sequence[History]) -> list[Compared]:
    """Returns the comparison as one record per run, ready for JSON.

    `settings` contains the settings that differ between runs. `other_pixels` tells
    whether the data of a run, from which its training images may have been chosen, has
    different images or labels than that of the first one.
    `minutes` and `examples_per_second` are from the summaries, or if there are fewer
    than two, from the log lines, and None if there are too few of these, too.
    `evaluations` contains, for each split, all evaluations, the last and the best one
    (the first of equal ones), or None if there are none. `loss` contains means over
    groups of log lines, at most 200 of them; for runs of earlier versions, which have
    no recorded log, it contains the moving average in the summaries, corrected for its
    start from zero.
    """
    runs = [history.run for history in histories]
    fields = [f for f in dataclasses.fields(Config) if f.name not in _PLACES]
    different = find_differing(fields, [run.config for run in runs])
    return [
        {
            "run": str(run.path),
            "name": name,
            "settings": {f.name: getattr(run.config, f.name) for f in different},
            "data_source": run.data_source,
            "data_fingerprint": run.data_fingerprint,
            "other_pixels": run.test_fingerprint != runs[0].test_fingerprint,
            "steps": (steps := _steps(history)),
            "max_steps": run.config.max_steps,
            "saved": history.saved,
            "minutes": _minutes(speeds := _speeds(history), steps),
            "examples_per_second": _typical_speed(speeds, run.config.batch_size),
            "evaluations": {
                split: _evaluations(records)
                for split, records in history.evaluations.items()
            },
            "loss": _curve(history),
        }
        for run, name, history in zip(runs, _names(runs), histories, strict=True)
    ]


def _names(runs: Sequence[Run]) -> list[str]:
    """Returns the directory names of the runs, or their paths where names are equal."""
    names = [run.path.resolve().name for run in runs]
    return [
        name if name and names.count(name) == 1 else str(run.path)
        for run, name in zip(runs, names, strict=True)
    ]


def _steps(history: History) -> int:
    """Returns how many steps a run has taken, as far as its history shows."""
    evaluated: list[int] = [
        r["step"] for rs in history.evaluations.values() for r in rs
    ]
    summarized: list[int] = [
        one["step"] + 1 for one in [*history.training, *history.log]
    ]
    return max([history.saved or 0, *evaluated, *summarized])


def _speeds(history: History) -> list[tuple[int, float]]:
    """Returns steps, and the steps per second since the step before, at least two."""
    found = [(r["step"], float(r["global_step/sec"])) for r in history.training]
    if len(found) < 2:
        size = history.run.config.batch_size
        found = [(r["step"], r["examples/sec"] / size) for r in history.log]
    # The first speed alone is not enough: it is that of a single step, the slowest.
    return found if len(found) > 1 else []


def _minutes(speeds: Sequence[tuple[int, float]], steps: int) -> float | None:
    """Returns the minutes that a run spent on its steps, counting each step once.

    It sums the seconds per step over all steps, taken from the next speed, or from the
    last one for steps after it. These speeds exclude compilation and checkpoints; the
    times of the records are not used, since they would include stops between starts.
    """
    if not speeds:
        return None
    ends = [step + 1 for step, _ in speeds]
    ends[-1] = max(steps, ends[-1])
    seconds = sum(
        (end - start) / speed
        for start, end, (_, speed) in zip([0, *ends], ends, speeds, strict=False)
    )
    return seconds / 60


def _typical_speed(
    speeds: Sequence[tuple[int, float]], batch_size: int
) -> float | None:
    """Returns the median examples per second, without the first step."""
    if not speeds:
        return None
    return batch_size * statistics.median(speed for _, speed in speeds[1:])


def _curve(history: History) -> dict[str, list[Any]]:
    """Returns the steps and values of the loss curve."""
    if not history.log:
        return {
            "steps": [record["step"] for record in history.training],
            "total_loss": [_loss(record) for record in history.training],
        }
    every = -(-len(history.log) // _POINTS)
    groups = [
        history.log[start : start + every]
        for start in range(0, len(history.log), every)
    ]
    return {
        "steps": [group[-1]["step"] for group in groups],
        "total_loss": [
            statistics.fmean(line["total_loss_raw"] for line in group)
            for group in groups
        ],
    }


def _loss(summary: Mapping[str, Any]) -> float:
    """Returns the moving average of the loss, corrected for its start from 0."""
    bias: float = LOSS_AVERAGE_DECAY ** (summary["step"] + 1)
    return float(summary["total_loss"]) / (1 - bias)


def _evaluations(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Returns the evaluations of one split, or None if there are none."""
    found = [_evaluation(record) for record in records]
    if not found:
        return None
    best = max(found, key=lambda evaluation: evaluation["precision_at_1"])
    return {"last": found[-1], "best": best, "all": found}


def _evaluation(record: Mapping[str, Any]) -> dict[str, Any]:
    precision, count = record["precision_at_1"], record["num_examples"]
    interval = wilson_interval(round(precision * count), count)
    return {
        "step": record["step"],
        "precision_at_1": precision,
        "precision_at_1_interval_95": list(interval),
        "num_examples": count,
        "metrics": {
            name: value
            for name, value in record.items()
            if name not in _KNOWN and isinstance(value, int | float)
        },
    }
