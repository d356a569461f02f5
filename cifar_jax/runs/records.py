"""Reads the training and evaluation records of a run."""

import itertools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from cifar_jax.errors import UserError
from cifar_jax.runs.run_dir import Run
from cifar_jax.writers import jsonl

# The lowest and the highest allowed values of the fields that are read.
_LARGEST = 2**31 - 1
_TRAINING = {
    "step": (0, _LARGEST),
    "total_loss": (-1e38, 1e38),
    "global_step/sec": (1e-9, 1e9),
}
_LOG = {"step": (0, _LARGEST), "total_loss_raw": (-1e38, 1e38)}
_EVALUATION = {
    "step": (0, _LARGEST),
    "precision_at_1": (0, 1),
    "num_examples": (1, _LARGEST),
}


def training(run: Run) -> list[dict[str, Any]]:
    """Returns the training summaries of a run; see `jsonl.read_training`.

    Raises:
        UserError: the file cannot be read, or is damaged.
    """
    return _read(jsonl.read_training, run.path / "train.jsonl", _TRAINING)


def log(run: Run) -> list[dict[str, Any]]:
    """Returns the values in a run's log lines; see `jsonl.read_training`.

    Earlier versions did not record them.

    Raises:
        UserError: the file cannot be read, or is damaged.
    """
    return _read(jsonl.read_training, run.path / "log.jsonl", _LOG)


def evaluations(run: Run, split: str) -> list[dict[str, Any]]:
    """Returns the evaluations of a run on a whole split of its own data.

    These are evaluations of the averaged parameters, from the run's folder `eval`; see
    `jsonl.read_evaluations`.

    Raises:
        UserError: the file cannot be read, or is damaged.
    """
    records = _read(
        jsonl.read_evaluations, run.evaluations / f"{split}.jsonl", _EVALUATION
    )
    return [
        record
        for record in records
        if record.get("fingerprint", run.data_fingerprint) == run.data_fingerprint
    ]


def _read(
    reader: Callable[[pathlib.Path], list[dict[str, Any]]],
    path: pathlib.Path,
    ranges: Mapping[str, tuple[float, float]],
) -> list[dict[str, Any]]:
    """Reads and checks the records of a file; returns none if it does not exist."""
    try:
        if not path.exists():
            return []
        if not path.is_file():
            raise UserError(f"cannot read {path}: it is not a regular file")
        records = reader(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    for record, (name, (low, high)) in itertools.product(records, ranges.items()):
        value = record.get(name)
        if type(value) not in (int, float) or not low <= value <= high:
            raise UserError(
                f"{path} is damaged: in its line for step {record['step']}, {name} is "
                f"{str(value)[:40]}; delete that line"
            )
    return records
