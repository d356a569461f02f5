"""Console output: whole lines, flushed, from the main process only."""

import contextlib
import os
import sys
from collections.abc import Callable

import jax

from cifar_jax.errors import RunError

# A function that log lines are passed to.
Log = Callable[[str], None]


class OutputError(RunError):
    """Standard output cannot be written to; all further output is lost.

    Attributes:
        closed: whether its reader has exited, as in `... | head`.
    """

    def __init__(self, error: OSError):
        super().__init__(f"cannot write to standard output: {error.strerror}")
        self.closed = isinstance(error, BrokenPipeError)


def say(*lines: str) -> None:
    """Prints and flushes lines, so that pipes and log files stay up to date.

    File names in them may contain anything; `to_one_line` escapes them.

    Raises:
        OutputError: the lines cannot be written.
    """
    if jax.process_index() != 0:
        return
    try:
        print("\n".join(map(to_one_line, lines)), flush=True)
    except OSError as error:
        discard_output()
        raise OutputError(error) from None


def log(*lines: str) -> None:
    """Prints lines of the training log; training continues if this fails."""
    try:
        say(*lines)
    except OutputError as error:
        warn(f"{error}; training continues without its log")


def warn(message: str) -> None:
    """Prints a one-line warning to standard error."""
    note(f"warning: {message}")


def note(line: str) -> None:
    """Prints a line to standard error; it is lost if nothing can be written there."""
    with contextlib.suppress(OSError):
        print(to_one_line(line), file=sys.stderr, flush=True)


def to_one_line(message: str) -> str:
    """Escapes line breaks and other unprintable characters, which control terminals."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in message
    )


def discard_output() -> None:
    """Discards buffered and further output instead of failing again.

    Python flushes the buffer once more at exit, which would fail as well.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
