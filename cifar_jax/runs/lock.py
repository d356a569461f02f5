"""The lock of a run's directory, which only one training process can hold."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

import filelock

from cifar_jax.errors import UserError

_LOCK = ".lock"
# An evaluation that checks whether training is running holds the lock for an instant;
# training that starts at that moment waits this long before it gives up.
LOCK_SECS = 1.0


def is_training(path: pathlib.Path) -> bool:
    """Returns whether training is running in the directory at this moment, or may be.

    If this user cannot write there, that is unknown.
    """
    if not (path / _LOCK).exists():
        return False
    try:
        with filelock.FileLock(path / _LOCK, timeout=0):
            return False
    except filelock.Timeout:
        return True
    except OSError:
        return True


@contextlib.contextmanager
def hold(path: pathlib.Path) -> Iterator[None]:
    """Creates a directory and holds its lock, which is released if the process ends."""
    file = path / _LOCK
    try:
        path.mkdir(parents=True, exist_ok=True)
        held = filelock.FileLock(file, timeout=LOCK_SECS).acquire()
    except filelock.Timeout:
        raise UserError(
            f"another training run (process {_owner(file)}) is using "
            f"--train_dir={path}; wait for it or choose another --train_dir"
        ) from None
    except OSError as error:
        where = f" ({_LOCK})" if path.is_dir() else ""
        raise UserError(
            f"--train_dir={path}{where} cannot be used: {error.strerror or error}"
        ) from None
    with held:
        # On Windows, a locked file cannot be written to; the owner is then "unknown".
        with contextlib.suppress(OSError):
            file.write_text(f"{os.getpid()}\n", encoding="utf-8")
        yield


def _owner(file: pathlib.Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip() or "unknown"
    except OSError:
        return "unknown"
