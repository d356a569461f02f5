"""Atomic file writes and checks that a folder is writable."""

import contextlib
import os
import pathlib
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from cifar_jax.errors import UserError

try:
    import fcntl
except ModuleNotFoundError:  # on Windows
    fcntl = None  # type: ignore[assignment]

# The name of a file that is being written, different each time.
_PARTIAL = ".cifar_jax-{}.partial"


def write_atomically(path: pathlib.Path, contents: str | bytes) -> None:
    """Writes a file atomically, so that neither a reader nor a crash sees half of it.

    Text is written as UTF-8. Partial files that killed processes left in that folder
    are deleted.

    Raises:
        OSError: the file cannot be written; its previous contents are unchanged.
    """
    _delete_leftovers(path.parent)
    with _stage(path.parent, contents) as partial:
        partial.replace(path)


def write_together(directory: pathlib.Path, files: Mapping[str, str | bytes]) -> None:
    """Writes files that belong together into a folder, which is created if missing.

    The files get their names, in this order, once all are written. Only one process at
    a time does this, except on Windows and NFS, where folders cannot be locked.

    Raises:
        OSError: the files cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with _lock(directory), contextlib.ExitStack() as stack:
        _delete_leftovers(directory)
        partials = {
            name: stack.enter_context(_stage(directory, contents))
            for name, contents in files.items()
        }
        for name, partial in partials.items():
            partial.replace(directory / name)


@contextlib.contextmanager
def _lock(folder: pathlib.Path) -> Iterator[None]:
    """Locks the folder itself, so that no file is left behind."""
    if fcntl is None:
        yield
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


@contextlib.contextmanager
def _stage(folder: pathlib.Path, contents: str | bytes) -> Iterator[pathlib.Path]:
    """Writes a temporary file, which is deleted unless it is renamed."""
    with contextlib.ExitStack() as stack:
        partial, file = _create(folder)
        stack.callback(partial.unlink, missing_ok=True)
        stack.enter_context(file)
        file.write(contents.encode() if isinstance(contents, str) else contents)
        file.flush()
        os.fsync(file.fileno())
        if fcntl is None:  # Windows cannot rename open files.
            file.close()
        yield partial


def _create(folder: pathlib.Path) -> tuple[pathlib.Path, BinaryIO]:
    """Creates a file; its lock tells others that it is being written."""
    while True:
        partial = folder / _PARTIAL.format(secrets.token_hex(8))
        file = partial.open("xb")
        if fcntl is not None:
            # Some file systems have no locks; leftovers remain there.
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        if partial.exists():
            return partial, file
        # Before it was locked, another process mistook it for a leftover.
        file.close()


def _delete_leftovers(folder: pathlib.Path) -> None:
    for path in folder.glob(_PARTIAL.format("*")):
        # Locking a file that is being written raises this, too.
        with contextlib.suppress(OSError):
            if fcntl is None:
                path.unlink()  # Windows cannot delete open files.
            elif path.is_file() and not path.is_symlink():
                with path.open("r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()


def is_litter(name: str) -> bool:
    """Returns whether a file name is one that operating systems leave in any folder."""
    own = (".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini", ".directory")
    return name in own or name.startswith(("._", ".nfs"))


def check_folder(path: str | os.PathLike[str], flag: str) -> None:
    """Raises UserError unless files can be written to a folder, existing or not.

    The check creates temporary files where the folder is or would be, and removes them.

    Args:
        path: path of the folder.
        flag: name of the flag that gave the path, for the message.
    """
    name = os.fspath(path)
    if not name.isprintable():
        raise UserError(
            f"--{flag}={name} contains unprintable characters; choose another name"
        )
    try:
        existing = _nearest_existing(pathlib.Path(name).absolute())
        with tempfile.TemporaryDirectory(dir=existing) as trial:
            missing = pathlib.Path(name).absolute().relative_to(existing)
            (pathlib.Path(trial) / missing).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"--{flag}={name} cannot be used: {reason}; choose another folder"
        ) from None


def _nearest_existing(path: pathlib.Path) -> pathlib.Path:
    """Returns the folder itself or its nearest existing parent."""
    try:
        path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise OSError(0, "it is a broken symbolic link") from None
        return _nearest_existing(path.parent)
    return path
