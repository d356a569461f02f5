"""Summaries as JSON lines: DIR/train.jsonl, DIR/hooks.jsonl, DIR/eval/test.jsonl."""

import contextlib
import json
import math
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from cifar_jax.writers.base import Histogram, Summary


class JsonLines:
    """A file for each series, with an object on one line for each summary."""

    def open(self, directory: pathlib.Path, resume_step: int | None) -> None:
        """Prepares to write; readers void what a resumed run repeats."""
        self._directory = directory
        self._files: dict[str, BinaryIO] = {}

    def write(self, summary: Summary) -> None:
        """Appends a line and flushes it; a number that is not finite is null."""
        record: dict[str, Any] = {"step": summary.step, "time": time.time()}
        for name, value in summary.scalars.items():
            record[name] = value if math.isfinite(value) else None
        record |= summary.facts
        if summary.histograms:
            record["histograms"] = {
                name: _as_json(h) for name, h in summary.histograms.items()
            }
        file = self._file(summary.series)
        try:
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, file.name) from None

    def close(self) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.close()

    def _file(self, series: str) -> BinaryIO:
        if series not in self._files:
            path = self._directory / f"{series}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            self._files[series] = path.open("a+b")
            if not _ends_line(self._files[series]):
                # A killed run left an incomplete line; do not append to it.
                self._files[series].write(b"\n")
        return self._files[series]


def read_training(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the records of a training run's .jsonl file in order of steps.

    A run that was resumed or restarted repeats some steps: its records replace all
    earlier records of these steps and later ones.
    """
    records: list[dict[str, Any]] = []
    for record in _lines(path):
        while records and records[-1]["step"] >= record["step"]:
            records.pop()
        records.append(record)
    return records


def read_evaluations(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the last record of each step in an evaluation's .jsonl file, in order.

    Only evaluations of a whole split are included: the images that --num_examples left
    out may have been harder.
    """
    records = {
        record["step"]: record
        for record in _lines(path)
        if record.get("num_examples", 0) == record.get("examples_in_split")
    }
    return [records[step] for step in sorted(records)]


def _lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yields the records in file order, without lines that a killed run cut off."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line)
            if isinstance(record, dict) and isinstance(record.get("step"), int):
                yield record


def _ends_line(file: BinaryIO) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _as_json(histogram: Histogram) -> dict[str, Any]:
    return {
        "min": histogram.minimum,
        "max": histogram.maximum,
        "sum": histogram.total,
        "sum_squares": histogram.squares,
        "counts": histogram.counts.tolist(),
    }
