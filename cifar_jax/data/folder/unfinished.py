"""Files and folders in the cache that are being written.

NAME.partial is NAME.json or the folder NAME until it is complete. Its writer holds
NAME.lock, which is released when the process ends, so that leftovers of killed
processes can be recognized.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import filelock

_SUFFIX = ".partial"


@contextlib.contextmanager
def create(path: Path) -> Iterator[Path]:
    """Yields the path to write to; whatever is not renamed from there is deleted.

    The caller must hold the lock.
    """
    partial = path.with_suffix(_SUFFIX)
    try:
        yield partial
    finally:
        _delete(partial)


def delete_leftovers(folder: Path) -> None:
    """Deletes what killed processes were writing."""
    for partial in folder.glob(f"*{_SUFFIX}"):
        # The lock of anything still being written is held.
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
