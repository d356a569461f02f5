"""Summaries of a run, to TensorBoard (without TensorFlow) and to JSON lines."""

import contextlib
import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, UInt8
from tensorboardX import summary as tensorboard
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2

from cifar_jax.errors import RunError

_BINS = 64


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Counts of values between edges, with the moments TensorBoard wants."""

    counts: np.ndarray
    edges: np.ndarray
    minimum: float
    maximum: float
    total: float
    squares: float

    @classmethod
    def of(cls, values: Array) -> "Histogram":
        """Sorts the values, which must be finite, into bins of equal width."""
        flat = np.asarray(values, np.float32).ravel()
        counts, edges = np.histogram(flat, _BINS)
        return cls(
            counts,
            edges,
            float(flat.min()),
            float(flat.max()),
            float(flat.sum(dtype=np.float64)),
            float(np.dot(flat, flat)),
        )


@dataclasses.dataclass(frozen=True)
class Digest:
    """What the summaries keep of an Inspection: small, and on the host."""

    scalars: dict[str, float]
    histograms: dict[str, Histogram]
    images: dict[str, UInt8[np.ndarray, "h w 3"]]


class Writer:
    """Appends to DIR/NAME.jsonl and to an event file beside it.

    Both are flushed at every write: a killed run loses at most what is being written.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        name: str,
        *,
        resume_step: int | None = None,
        prefix: str = "",
    ):
        """Opens the files.

        Args:
            directory: is made if it is not there.
            name: of the files.
            resume_step: of a training that begins or goes on with this step:
                TensorBoard forgets what was written of it and of later ones.
            prefix: of TensorBoard's tags.

        Raises:
            RunError: the files cannot be written.
        """
        self._prefix = prefix
        self._path = directory / f"{name}.jsonl"
        with self._writing():
            directory.mkdir(parents=True, exist_ok=True)
            self._lines = self._path.open("a+b")
            if not _ends_line(self._lines):
                # A killed run cut its last line off; keep ours apart from it.
                self._lines.write(b"\n")
            # tensorboardX would overwrite a file of the same second.
            suffix = f".{time.time_ns() % 10**9:09}.{name}"
            self._events = EventsWriter(str(directory / "events"), suffix)
            if resume_step is not None:
                start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
                self._events.write_event(
                    event_pb2.Event(
                        wall_time=time.time(), step=resume_step, session_log=start
                    )
                )

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        with self._writing():
            self._lines.close()
            self._events.close()

    def write(
        self,
        step: int,
        scalars: Mapping[str, float | Array],
        inside: Digest | None = None,
        facts: Mapping[str, int] | None = None,
    ) -> None:
        """Records scalars, and a digest if there is one, at a step.

        Args:
            step: after which they were computed.
            scalars: by names of letters, digits and `_-./`, which TensorBoard keeps.
            inside: of the network.
            facts: what else the JSON line says, but no curve of TensorBoard's.

        Raises:
            RunError: the files cannot be written.
        """
        scalars = {name: float(value) for name, value in scalars.items()}
        histograms: dict[str, Histogram] = {}
        values = []
        if inside is not None:
            scalars |= inside.scalars
            histograms = inside.histograms
            values = [
                tensorboard.image(name, image, dataformats="HWC").value[0]
                for name, image in inside.images.items()
            ]
        values += [
            tensorboard.scalar(self._prefix + k, v, _display_name(k)).value[0]
            for k, v in scalars.items()
        ]
        values += [_tensorboard_histogram(k, h) for k, h in histograms.items()]
        now = time.time()
        event = event_pb2.Event(wall_time=now, step=step)
        event.summary.value.extend(values)
        record: dict[str, Any] = {"step": step, "time": now, **scalars, **(facts or {})}
        if histograms:
            record["histograms"] = {k: _as_json(h) for k, h in histograms.items()}
        with self._writing():
            self._lines.write(json.dumps(record).encode() + b"\n")
            self._lines.flush()
            self._events.write_event(event)
            self._events.flush()

    @contextlib.contextmanager
    def _writing(self) -> Any:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"cannot write {self._path}: {error.strerror or error}"
            ) from error


def read_training(path: pathlib.Path) -> list[dict[str, Any]]:
    """The records of a training's .jsonl file by rising step.

    A training that was resumed, or begun anew, takes some steps again: its records
    take the place of all that were written of these steps and later ones.
    """
    records: list[dict[str, Any]] = []
    for record in _lines(path):
        while records and records[-1]["step"] >= record["step"]:
            records.pop()
        records.append(record)
    return records


def read_evaluations(path: pathlib.Path) -> list[dict[str, Any]]:
    """The records of an evaluation's .jsonl file by step, the last one of each.

    Only those of a whole split: what --num_examples left out may have been harder.
    """
    records = {
        record["step"]: record
        for record in _lines(path)
        if record.get("num_examples", 0) == record.get("examples_in_split")
    }
    return [records[step] for step in sorted(records)]


def _lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The records in the order of the file, but for lines that a kill has cut off."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line)
            if isinstance(record, dict) and isinstance(record.get("step"), int):
                yield record


def _display_name(name: str) -> str:
    """What TensorBoard shows for a tag: the tutorial's words, which tags cannot have.

    Empty if they are the tag itself.
    """
    if name == "precision_at_1":
        return "Precision @ 1"
    return f"{name.removesuffix('_raw')} (raw)" if name.endswith("_raw") else ""


def _ends_line(file: Any) -> bool:
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


def _tensorboard_histogram(name: str, histogram: Histogram) -> Any:
    summary = tensorboard.histogram_raw(
        name,
        histogram.minimum,
        histogram.maximum,
        int(histogram.counts.sum()),
        histogram.total,
        histogram.squares,
        histogram.edges[1:].tolist(),
        histogram.counts.tolist(),
    )
    return summary.value[0]
