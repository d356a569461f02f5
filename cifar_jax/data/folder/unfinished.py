"""Files and folders of the cache that are being written.

NAME.partial is NAME.json or the folder NAME until it is complete. Who writes it holds
NAME.lock, which the end of a process releases, so that what killed ones have left is
known.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import filelock

_SUFFIX = ".partial"


@contextlib.contextmanager
def create(path: Path) -> Iterator[Path]:
    """Yields the path to write to; what does not get its name there is deleted.

    The lock must be held.
    """
    partial = path.with_suffix(_SUFFIX)
    try:
        yield partial
    finally:
        _delete(partial)


def delete_leftovers(folder: Path) -> None:
    """Deletes what killed processes were writing."""
    for partial in folder.glob(f"*{_SUFFIX}"):
        # The lock of what is being written cannot be had.
        with (
            contextlib.suppress(OSError),
            filelock.FileLock(partial.with_suffix(".lock"), timeout=0),
        ):
            _delete(partial)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
