"""Silences what libraries still print after an error has cut their work short.

Orbax reads and writes arrays in threads and coroutines. When one of them fails, Orbax
raises that error, which the commands report, and the others end on closed event loops,
with hundreds of lines of warnings, log records and tracebacks. Some wait ten minutes
for the one that failed, and Python would wait for them.
"""

import errno
import logging
import sys
import threading
import traceback
import warnings
from typing import Any

from absl import logging as absl_logging

_LIBRARY = "orbax"
_CLOSED = "Event loop is closed"
_OF_ASYNCIO = (
    "Task exception was never retrieved",
    "Task was destroyed but it is pending",
    "deallocating an open event loop",
)


def silence() -> None:
    """Silences these messages in this process; libraries can still print others."""
    warnings.filterwarnings(
        "ignore", r"coroutine '.*' was never awaited", RuntimeWarning
    )
    absl_logging.get_absl_logger().addFilter(
        lambda record: _LIBRARY not in record.pathname
    )
    logging.getLogger("asyncio").addFilter(
        lambda record: not record.getMessage().startswith(_OF_ASYNCIO)
    )
    of_threads = threading.excepthook

    def thread_hook(arguments: threading.ExceptHookArgs) -> None:
        frames = traceback.extract_tb(arguments.exc_traceback)
        of_library = any(_LIBRARY in frame.filename for frame in frames)
        if not (of_library or _is_lack_of_handles(arguments.exc_value)):
            of_threads(arguments)

    threading.excepthook = thread_hook
    others = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        where = unraisable.object  # a coroutine, or the method of an event loop
        file = getattr(getattr(where, "cr_code", None), "co_filename", "")
        of_loop = str(getattr(where, "__module__", "")).startswith("asyncio")
        is_closed = str(unraisable.exc_value) == _CLOSED
        lacks_handles = _is_lack_of_handles(unraisable.exc_value)
        if not (_LIBRARY in file or of_loop or is_closed or lacks_handles):
            others(unraisable)

    sys.unraisablehook = hook


def _is_lack_of_handles(error: BaseException | None) -> bool:
    """Returns whether there were too few file handles, which the command reports."""
    return isinstance(error, OSError) and error.errno == errno.EMFILE


def lingers() -> bool:
    """Returns whether an Orbax thread is alive; a normal exit would wait for it."""
    return any(
        type(thread).__module__.startswith(_LIBRARY) for thread in threading.enumerate()
    )
