"""Writes summaries for TensorBoard (without TensorFlow) and as JSON lines."""

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
    """The counts of values between edges, with the moments that TensorBoard needs."""

    counts: np.ndarray
    edges: np.ndarray
    minimum: float
    maximum: float
    total: float
    squares: float

    @classmethod
    def of(cls, values: Array | np.ndarray) -> "Histogram":
        """Returns the histogram of finite values, with bins of equal width."""
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
    """The part of an Inspection that the summaries show: small, and on the host."""

    scalars: dict[str, float]
    histograms: dict[str, Histogram]
    images: dict[str, UInt8[np.ndarray, "h w 3"]]


class Writer:
    """Appends to DIR/NAME.jsonl and to an event file beside it.

    Both are flushed after every write, so a killed run loses at most the last record.
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
            directory: the folder of the files; it is created if it does not exist.
            name: the name of the files.
            resume_step: the step at which training starts or resumes; TensorBoard
                discards earlier records of this step and later ones.
            prefix: the prefix of TensorBoard's tags.

        Raises:
            RunError: the files cannot be written.
        """
        self._prefix = prefix
        self._path = directory / f"{name}.jsonl"
        with self._writing():
            directory.mkdir(parents=True, exist_ok=True)
            self._lines = self._path.open("a+b")
            if not _ends_line(self._lines):
                # A killed run left an incomplete line; do not append to it.
                self._lines.write(b"\n")
            # tensorboardX would overwrite a file created in the same second.
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
        digest: Digest | None = None,
        facts: Mapping[str, int] | None = None,
    ) -> None:
        """Records a step's scalars and, if given, its digest.

        Args:
            step: the step after which they were computed.
            scalars: values by name; TensorBoard preserves names that consist of
                letters, digits and `_-./`.
            digest: the digest of an inspection of the network.
            facts: further values for the JSON line, which TensorBoard does not plot.

        Raises:
            RunError: the files cannot be written.
        """
        scalars = {name: float(value) for name, value in scalars.items()}
        histograms: dict[str, Histogram] = {}
        values = []
        if digest is not None:
            scalars |= digest.scalars
            histograms = digest.histograms
            values = [
                tensorboard.image(name, image, dataformats="HWC").value[0]
                for name, image in digest.images.items()
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


def _display_name(name: str) -> str:
    """Returns the name that TensorBoard displays for a tag, or "" for the tag itself.

    It is the tutorial's name, which has characters that tags cannot contain.
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
