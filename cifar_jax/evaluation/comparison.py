"""Compares runs by their settings, speed and precision.

`compare` reduces what the runs have left on disk to a few facts of each, ready for
JSON. The table of comparison_table.py and the plot of comparison_plot.py show these.
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

# Points of a curve of the loss: more would hide it in the noise of single batches.
_POINTS = 200
SPLITS = ("test", "validation")
# What plots of a comparison name as their origin, and how many runs they can show.
GENERATOR = "python -m cifar_jax.compare --plot"
MOST_CURVES = 8
# Where a run and its data are says nothing about it; the pixels are compared instead.
_PLACES = ("train_dir", "data_dir")
# What else an evaluation has, besides what --eval_metrics asked for.
_KNOWN = {
    *("step", "time", "precision_at_1", "num_examples", "examples_in_split"),
    *("largest_class", "predicted_classes", "fingerprint"),
}
Compared = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class History:
    """What a run has left on disk.

    Attributes:
        run: its config and data.
        saved: the step of its newest checkpoint; None if there is none.
        training: its summaries, see `records.training`.
        evaluations: for each of SPLITS, see `records.evaluations`.
        log: the numbers of its log, see `records.log`.
    """

    run: Run
    saved: int | None
    training: list[dict[str, Any]]
    evaluations: dict[str, list[dict[str, Any]]]
    log: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def read(run: Run) -> History:
    """Reads what a run has left on disk.

    Raises:
        UserError: a file cannot be read, or is damaged.
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
    """Returns what is compared, one record for each run, ready for JSON.

    `settings` has those that are not the same in all runs. `other_pixels` says whether
    a run was trained on other images or labels than the first one. `minutes` and
    `examples_per_second` are None if there are fewer than two summaries. `evaluations`
    has all of a split, the last and the best one (of equal ones the first), or nothing
    if there is none. `loss` has the means of as many lines of the log as leave at most
    200 of them; of a run of an earlier version, whose log is not known, the moving
    average of the summaries, corrected for its start from zero.
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
            "other_pixels": run.data_fingerprint != runs[0].data_fingerprint,
            "steps": (steps := _steps(history)),
            "max_steps": run.config.max_steps,
            "saved": history.saved,
            "minutes": _minutes(history.training, steps),
            "examples_per_second": _speed(history.training, run.config.batch_size),
            "evaluations": {
                split: _evaluations(records)
                for split, records in history.evaluations.items()
            },
            "loss": _curve(history),
        }
        for run, name, history in zip(runs, _names(runs), histories, strict=True)
    ]


def _names(runs: Sequence[Run]) -> list[str]:
    """Returns the names of the runs' directories; their paths where these are equal."""
    names = [run.path.resolve().name for run in runs]
    return [
        name if name and names.count(name) == 1 else str(run.path)
        for run, name in zip(runs, names, strict=True)
    ]


def _steps(history: History) -> int:
    """Returns how many steps a run has taken, as far as anything tells."""
    evaluated: list[int] = [
        r["step"] for rs in history.evaluations.values() for r in rs
    ]
    summarized: list[int] = [
        one["step"] + 1 for one in [*history.training, *history.log]
    ]
    return max([history.saved or 0, *evaluated, *summarized])


def _minutes(training: Sequence[Mapping[str, Any]], steps: int) -> float | None:
    """Returns how long a run has computed its steps, each of them counted once.

    That is the sum over the steps of the seconds per step that the next summary gives;
    for those after the last summary it is the last one's. The speeds contain neither
    compilation nor checkpoints, and the times of the summaries are not used, which
    would count stops between two starts. A first summary alone says nothing: its speed
    is that of a single step, the slowest.
    """
    if len(training) < 2:
        return None
    ends = [record["step"] + 1 for record in training]
    ends[-1] = max(steps, ends[-1])
    seconds: float = sum(
        (end - start) / record["global_step/sec"]
        for start, end, record in zip([0, *ends], ends, training, strict=False)
    )
    return seconds / 60


def _speed(training: Sequence[Mapping[str, Any]], batch_size: int) -> float | None:
    """Returns the median over the summaries but the first of the examples a second."""
    if len(training) < 2:
        return None
    steps_per_second = [float(r["global_step/sec"]) for r in training[1:]]
    return batch_size * statistics.median(steps_per_second)


def _curve(history: History) -> dict[str, list[Any]]:
    """Returns the steps and values of the curve of the loss."""
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
    """Returns the moving average of the loss without the bias of its start from 0."""
    bias: float = LOSS_AVERAGE_DECAY ** (summary["step"] + 1)
    return float(summary["total_loss"]) / (1 - bias)


def _evaluations(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Returns the evaluations of one split; None if there are none."""
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
