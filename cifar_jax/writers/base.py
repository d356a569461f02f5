"""What is written of a run as it trains, and what a writer provides."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, UInt8

from cifar_jax.devices import sharding
from cifar_jax.errors import UserError

_BINS = 64
# What JSON lines have besides numbers by name.
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
    """What is known of a run at one step.

    Attributes:
        series: what it is about: "train"; "log", the numbers of a line of the log;
            "hooks", those that hooks return; or an evaluation, such as "eval/test" or
            "eval/test_raw".
        step: the step it belongs to.
        scalars: numbers by name.
        facts: what describes the scalars and is not plotted.
        histograms: by name.
        images: by name.
    """

    series: str
    step: int
    scalars: Mapping[str, float]
    facts: Mapping[str, int | str] = dataclasses.field(default_factory=dict)
    histograms: Mapping[str, Histogram] = dataclasses.field(default_factory=dict)
    images: Mapping[str, UInt8[np.ndarray, "h w 3"]] = dataclasses.field(
        default_factory=dict
    )


@runtime_checkable
class Writer(Protocol):
    """What a class in WRITERS provides; the arguments of its constructor are options.

    Nothing happens before `open`. Only the main process writes. An OSError that a
    method raises ends the run as one that failed.
    """

    def open(self, directory: pathlib.Path, resume_step: int | None) -> None:
        """Prepares to write.

        Args:
            directory: of the run; it exists.
            resume_step: the step at which the run starts or resumes: what was written
                of this step and later ones is void. None: it is not a training run.
        """
        ...

    def write(self, summary: Summary) -> None:
        """Writes a summary so that a killed process loses it at most."""
        ...

    def close(self) -> None:
        """Ends writing."""
        ...


def as_numbers(returned: Any, name: str) -> dict[str, float]:
    """Returns what something has returned, as Python's own numbers by name.

    Args:
        returned: numbers by name, or None.
        name: of what returned them, for the message.

    Raises:
        UserError: it is something else.
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
                f"{name} returned a number called {key!r}; call it by another name, in "
                f"text, that is not one of {', '.join(_RESERVED)}"
            )
    return found
