"""Summaries of a run, and the interface of their writers."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, UInt8

from cifar_jax.devices import sharding
from cifar_jax.errors import UserError

_BINS = 64
# Keys that JSON lines have in addition to named numbers.
_RESERVED = (
    *("step", "time", "histograms", "num_examples", "examples_in_split"),
    *("largest_class", "predicted_classes", "fingerprint", "crc32"),
)


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
    def from_values(cls, values: Array | np.ndarray) -> "Histogram":
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
class Summary:
    """The results of a run at one step.

    Attributes:
        series: the series it belongs to: "train"; "log", the numbers in a log line;
            "hooks", the numbers that hooks return; or an evaluation, such as
            "eval/test" or "eval/test_raw".
        step: the step it belongs to.
        scalars: numbers by name.
        facts: details about the scalars, which are not plotted.
        histograms: histograms by name.
        images: images by name.
        pages: self-contained HTML pages by name.
    """

    series: str
    step: int
    scalars: Mapping[str, float]
    facts: Mapping[str, int | str] = dataclasses.field(default_factory=dict)
    histograms: Mapping[str, Histogram] = dataclasses.field(default_factory=dict)
    images: Mapping[str, UInt8[np.ndarray, "h w 3"]] = dataclasses.field(
        default_factory=dict
    )
    pages: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """What tells its names from those of other series, such as "test/"."""
        if self.series in ("train", "hooks"):
            return ""
        return self.series.removeprefix("eval/") + "/"


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """What writers are told about the run whose summaries they write.

    Attributes:
        path: its directory.
        id: identifies it, and stays the same when it is resumed; None in old runs.
        config: its settings by name.
        start: the step at which training starts or resumes, which voids earlier
            records of this step and later ones; None for an evaluation.
        is_training: whether another process may be training it at the same time.
    """

    path: pathlib.Path
    id: str | None = None
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    start: int | None = None
    is_training: bool = False


@runtime_checkable
class Writer(Protocol):
    """The interface of classes in WRITERS; their constructors' arguments are options.

    Nothing happens before `open`, which is called before training or an evaluation
    starts. Only the main process writes. An OSError that a method raises ends the run
    as failed.
    """

    def open(self, directory: pathlib.Path, run: RunInfo) -> str | None:
        """Prepares to write.

        Args:
            directory: where to write files; it exists.
            run: what the summaries are about.

        Returns:
            A line for the log, such as a link to the run; None if there is none.

        Raises:
            UserError: it cannot be used.
        """
        ...

    def write(self, summary: Summary) -> None:
        """Writes a summary so that a killed process loses no earlier one."""
        ...

    def close(self, error: BaseException | None) -> None:
        """Finishes writing.

        Args:
            error: what ended the run early, such as `Stopped`; None if nothing did.
        """
        ...


def as_numbers(returned: Any, name: str) -> dict[str, float]:
    """Converts the result of a metric or a hook to Python floats by name.

    Args:
        returned: numbers by name, or None.
        name: what returned them, for the message.

    Raises:
        UserError: the result is something else.
    """
    try:
        found = {
            key: float(np.asarray(sharding.to_local(value)))
            for key, value in dict(returned or {}).items()
        }
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{name} returned {returned!r}, not numbers by name: {error}"
        ) from None
    for key in found:
        if not isinstance(key, str) or key in _RESERVED:
            raise UserError(
                f"{name} returned a number called {key!r}; its name must be text and "
                f"none of {', '.join(_RESERVED)}"
            )
    return found
