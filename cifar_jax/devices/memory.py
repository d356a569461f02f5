"""Errors that mean this machine or a device is out of memory."""

import contextlib
import errno
import re
from collections.abc import Iterator

import jax

from cifar_jax.errors import RunError

# XLA's errors contain one of them, though their status may be a different one.
_WORDS = re.compile("RESOURCE_EXHAUSTED|out of memory", re.IGNORECASE)
_LONGEST = 200


@contextlib.contextmanager
def shortage_as_run_error(what: str, way_out: str) -> Iterator[None]:
    """Turns an out-of-memory error into a RunError.

    Args:
        what: what the memory is needed for.
        way_out: what needs less memory.
    """
    try:
        yield
    except Exception as error:
        if (reason := shortage(error)) is None:
            raise
        raise RunError(
            f"there is not enough memory for {what} ({reason}); {way_out}"
        ) from error


def shortage(error: BaseException) -> str | None:
    """Returns the message of an out-of-memory error, or None for other errors."""
    text = str(error).strip()
    of_xla = isinstance(error, jax.errors.JaxRuntimeError | ValueError)
    of_system = isinstance(error, OSError) and error.errno == errno.ENOMEM
    if not (
        isinstance(error, MemoryError) or of_system or (of_xla and _WORDS.search(text))
    ):
        return None
    return (text or type(error).__name__).splitlines()[0][:_LONGEST]
