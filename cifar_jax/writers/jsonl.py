"""Summaries as JSON lines, such as DIR/train.jsonl and DIR/eval/test.jsonl."""

import contextlib
import json
import math
import pathlib
import re
import time
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from cifar_jax.errors import UserError
from cifar_jax.writers.base import Histogram, RunInfo, Summary

_CHECKSUM = re.compile(r', "crc32": "[0-9a-f]{8}"\}$')
# What remains of it, whichever byte is damaged.
_TRACE = re.compile(r'"crc32"|"[0-9a-f]{8}"\}$')


class JsonLines:
    """Writes one file per series, with one line, a JSON object, per summary.

    Images and pages are left out, and so are summaries that have nothing else.
    """

    def open(self, directory: pathlib.Path, run: RunInfo) -> None:
        """Prepares to write; readers discard the records that a resumed run repeats."""
        self._directory = directory
        self._files: dict[str, BinaryIO] = {}

    def write(self, summary: Summary) -> None:
        """Appends a line and flushes it; non-finite numbers become null.

        The line's last member is the CRC-32 of the line without that member.
        """
        if not (summary.scalars or summary.facts or summary.histograms):
            return
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
            file.write(_sign(json.dumps(record)).encode() + b"\n")
            file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, file.name) from None

    def close(self, error: BaseException | None) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.close()

    def _file(self, series: str) -> BinaryIO:
        if series not in self._files:
            path = self._directory / f"{series}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            self._files[series] = path.open("a+b")
            _end_line(self._files[series])
        return self._files[series]


def read_training(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the records of a training run's .jsonl file, ordered by step.

    A run that was resumed or restarted repeats some steps: its records replace all
    earlier records of these steps and later ones.

    Raises:
        UserError: a line is damaged.
    """
    records: list[dict[str, Any]] = []
    for record in _lines(path):
        while records and records[-1]["step"] >= record["step"]:
            records.pop()
        records.append(record)
    return records


def read_evaluations(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the last record of each step in an evaluation's .jsonl file, in order.

    Only evaluations of a whole split are included: the images that --num_examples
    leaves out may be harder.

    Raises:
        UserError: a line is damaged.
    """
    records = {
        record["step"]: record
        for record in _lines(path)
        if record.get("num_examples", 0) == record.get("examples_in_split")
    }
    return [records[step] for step in sorted(records)]


def _lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yields the records in file order, without a last line that was cut off.

    Earlier versions wrote lines without checksums, and appended to cut-off lines.
    """
    signed = False
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        signed = signed or _TRACE.search(line) is not None
        record = _record(line, signed)
        if record is None and signed and line.strip() and number < len(lines):
            raise UserError(
                f"{path} is damaged: its line {number} does not match its checksum, "
                "crc32; delete that line"
            )
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            yield record


def _record(line: str, signed: bool) -> Any:
    """Returns the object on a line, or None if it is not JSON or its checksum fails."""
    match = _CHECKSUM.search(line)
    if signed and (match is None or line != _sign(line[: match.start()] + "}")):
        return None
    with contextlib.suppress(ValueError, RecursionError):
        record = json.loads(line)
        if signed:
            del record["crc32"]
        return record
    return None


def _sign(line: str) -> str:
    """Returns a JSON object with its checksum as the last member."""
    return f'{line[:-1]}, "crc32": "{zlib.crc32(line.encode()):08x}"}}'


def _end_line(file: BinaryIO) -> None:
    """Ends a file's last line; deletes the line if a killed run has cut it off."""
    file.seek(0)
    text = file.read()
    start = text.rfind(b"\n") + 1
    last = text[start:].decode(errors="replace")
    if last and _record(last, signed=_TRACE.search(last) is not None) is None:
        file.truncate(start)
    elif last:
        file.write(b"\n")


def _as_json(histogram: Histogram) -> dict[str, Any]:
    return {
        "min": histogram.minimum,
        "max": histogram.maximum,
        "sum": histogram.total,
        "sum_squares": histogram.squares,
        "counts": histogram.counts.tolist(),
    }
