"""Summaries for TensorBoard, without TensorFlow: DIR/events.out.tfevents.*."""

import pathlib
import time
from typing import Any

from tensorboardX import summary as tensorboard
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2

from cifar_jax.writers.base import Histogram, RunInfo, Summary


class TensorBoard:
    """Writes one event file; tags of an evaluation begin with the evaluation's name."""

    def open(self, directory: pathlib.Path, run: RunInfo) -> None:
        """Starts a file that tells TensorBoard which steps a resumed run repeats."""
        # tensorboardX would overwrite a file created in the same second.
        suffix = f".{time.time_ns() % 10**9:09}"
        self._events = EventsWriter(str(directory / "events"), suffix)
        if run.start is not None:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._events.write_event(
                event_pb2.Event(
                    wall_time=time.time(), step=run.start, session_log=start
                )
            )

    def write(self, summary: Summary) -> None:
        """Writes and flushes an event.

        TensorBoard leaves tags unchanged that consist of letters, digits and `_-./`.
        """
        prefix = summary.prefix
        values = [
            tensorboard.image(prefix + name, image, dataformats="HWC").value[0]
            for name, image in summary.images.items()
        ]
        values += [
            tensorboard.scalar(prefix + name, value, _display_name(name)).value[0]
            for name, value in summary.scalars.items()
        ]
        values += [_histogram(name, h) for name, h in summary.histograms.items()]
        event = event_pb2.Event(wall_time=time.time(), step=summary.step)
        event.summary.value.extend(values)
        self._events.write_event(event)
        self._events.flush()

    def close(self, error: BaseException | None) -> None:
        """Closes the file."""
        self._events.close()


def _display_name(name: str) -> str:
    """Returns the name that TensorBoard displays for a tag, or "" for the tag itself.

    This is the tutorial's name, with characters that tags cannot contain.
    """
    if name == "precision_at_1":
        return "Precision @ 1"
    return f"{name.removesuffix('_raw')} (raw)" if name.endswith("_raw") else ""


def _histogram(name: str, histogram: Histogram) -> Any:
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
