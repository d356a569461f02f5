"""What the commands print: whole lines, at once, by the main process alone."""

import contextlib
import os
import sys

from cifar_jax.devices import parallel
from cifar_jax.errors import RunError


class OutputError(RunError):
    """Standard output cannot be written; what is printed from now on is lost.

    Attributes:
        closed: whether its reader has gone (`... | head`).
    """

    def __init__(self, error: OSError):
        super().__init__(f"standard output cannot be written: {error.strerror}")
        self.closed = isinstance(error, BrokenPipeError)


def say(line: str) -> None:
    """Prints a line at once; a pipe or a log file follows the run.

    Raises:
        OutputError: the line cannot be written.
    """
    if not parallel.is_first():
        return
    try:
        print(line, flush=True)
    except OSError as error:
        _discard_output()
        raise OutputError(error) from None


def log(line: str) -> None:
    """Prints a line of a training, which goes on if that is impossible."""
    try:
        say(line)
    except OutputError as error:
        warn(f"{error}; the training goes on without its log")


def warn(message: str) -> None:
    """Prints a warning on standard error, on one line."""
    with contextlib.suppress(OSError):
        print(f"warning: {one_line(message)}", file=sys.stderr, flush=True)


def one_line(message: str) -> str:
    """The message with line breaks and other unprintable characters escaped."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in message
    )


def _discard_output() -> None:
    """Sends the rest, and what is buffered already, nowhere instead of failing again.

    Python flushes the buffer once more when it exits.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
