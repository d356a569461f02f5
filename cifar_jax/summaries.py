"""Summaries of a run, to TensorBoard (without TensorFlow) and to JSON lines."""

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8
from tensorboardX import summary as tensorboard
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2

from cifar_jax.errors import RunError
from cifar_jax.steps import Inspection

# As `tf.summary.image` with its default max_outputs.
_IMAGES = 3
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


def digest(inside: Inspection) -> Digest:
    """The tutorial's summaries of the inside of the network, under its names.

    Of every layer a histogram of its activations and their sparsity (the share of
    zeros), histograms of all parameters and gradients, and the first few inputs.
    """
    activations = {
        f"{layer}/activations": values for layer, values in inside.activations.items()
    }
    parameters = _by_name(inside.params)
    gradients = {f"{k}/gradients": v for k, v in _by_name(inside.grads).items()}
    everything = activations | parameters | gradients
    return Digest(
        scalars={
            f"{layer}/sparsity": float(np.mean(np.asarray(values) == 0))
            for layer, values in inside.activations.items()
        },
        histograms={name: Histogram.of(values) for name, values in everything.items()},
        images={
            f"images/image/{i}": as_picture(image)
            for i, image in enumerate(np.asarray(inside.images[:_IMAGES]))
        },
    )


def as_picture(
    image: Float[np.ndarray, "h w 3"],
) -> UInt8[np.ndarray, "h w 3"]:
    """Shows a standardised image as `tf.summary.image` does: zero becomes grey 127.

    Scaled by the largest factor that keeps all of it within 0..255.
    """
    largest = max(image.max() / 128, -image.min() / 127, np.finfo(np.float32).tiny)
    return np.clip(image / largest + 127, 0, 255).astype(np.uint8)


class Writer:
    """Appends to DIR/NAME.jsonl and to an event file beside it.

    Both are flushed at every write: a killed run loses at most what is being written.
    """

    def __init__(self, directory: pathlib.Path, name: str, resume_step: int = 0):
        """Opens the files; with resume_step, TensorBoard forgets what came after.

        Raises:
            RunError: the files cannot be written.
        """
        self._path = directory / f"{name}.jsonl"
        with self._writing():
            directory.mkdir(parents=True, exist_ok=True)
            self._lines = self._path.open("a+b")
            if not _ends_line(self._lines):
                # A killed run cut its last line off; keep ours apart from it.
                self._lines.write(b"\n")
            self._events = EventsWriter(str(directory / "events"), f".{name}")
            if resume_step:
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
    ) -> None:
        """Records scalars, and a digest if there is one, at a step.

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
        values += [tensorboard.scalar(k, v).value[0] for k, v in scalars.items()]
        values += [_tensorboard_histogram(k, h) for k, h in histograms.items()]
        now = time.time()
        event = event_pb2.Event(wall_time=now, step=step)
        event.summary.value.extend(values)
        record: dict[str, Any] = {"step": step, "time": now} | scalars
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


class BackgroundWriter:
    """Digests and writes in a thread, in order, one summary at a time.

    An error of one write is raised by the next, or on leaving.
    """

    def __init__(self, writer: Writer):
        self._writer = writer
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._last: concurrent.futures.Future | None = None

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self._thread.shutdown()
        if error is None:
            self._raise()

    def write(
        self, step: int, scalars: Mapping[str, Array], inside: Inspection
    ) -> None:
        """Records scalars and the digest of an inspection at a step, some time."""
        self._raise()
        self._last = self._thread.submit(
            lambda: self._writer.write(step, scalars, digest(inside))
        )

    def _raise(self) -> None:
        if self._last is not None:
            self._last.result()


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """The records of a .jsonl file by rising step.

    Where a resumed run wrote a step again its last record counts, and a line that
    was cut off by a kill is passed over.
    """
    records: dict[int, dict[str, Any]] = {}
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            record = json.loads(line)
            records[record["step"]] = record
    return [records[step] for step in sorted(records)]


def _by_name(tree: Any) -> dict[str, Array]:
    """Leaves of a nested dict by path: `conv1/kernel`."""
    return {
        "/".join(key.key for key in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


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
