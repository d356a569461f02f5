"""Handles Ctrl-C and SIGTERM: exits immediately or asks training to stop."""

import atexit
import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any

# Windows defines SIGTERM, but nothing there sends it.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def exit_on_signals() -> None:
    """Makes Ctrl-C and SIGTERM end this process with one line and status 130 or 143.

    Commands call this before their imports, which take seconds. Raising an exception
    would not work: one raised while a library calls back into Python is swallowed.
    """
    for signum in _SIGNALS:
        with contextlib.suppress(ValueError, OSError):
            signal.signal(signum, _exit)


def end_on_signals() -> None:
    """Makes Ctrl-C and SIGTERM end this process normally, with status 0."""
    for signum in _SIGNALS:
        with contextlib.suppress(ValueError, OSError):
            signal.signal(signum, _end)


def ignore_at_exit() -> None:
    """Makes this process ignore both signals while exiting with a settled status.

    Python would otherwise restore the default handlers, which change the status.
    """
    atexit.register(_ignore)


def _ignore() -> None:
    for signum in _SIGNALS:
        with contextlib.suppress(ValueError, OSError):
            signal.signal(signum, signal.SIG_IGN)


def _exit(signum: int, frame: FrameType | None) -> None:
    # Bypasses sys.stderr, which the interrupted code may be in the middle of using.
    with contextlib.suppress(OSError):
        os.write(2, f"error: stopped by {signal.Signals(signum).name}\n".encode())
    os._exit(128 + signum)


def _end(signum: int, frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(1, b"stopped\n")
    os._exit(0)


class StopRequest:
    """A context in which the first Ctrl-C or SIGTERM only sets `signum`.

    The second one acts as it would outside the context: a user who asks twice does not
    want to wait for a checkpoint. Outside the main thread, nothing is caught, because
    Python delivers no signals to other threads.

    Attributes:
        signum: the number of the signal received, or None.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for signum in _SIGNALS:
                with contextlib.suppress(ValueError, OSError):
                    self._previous[signum] = signal.signal(signum, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _request(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            signum, handler = self._previous.popitem()
            signal.signal(signum, handler)
