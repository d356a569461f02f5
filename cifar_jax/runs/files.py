"""Files that are whole or not there at all, and folders that can hold them."""

import os
import pathlib
import tempfile

from cifar_jax.errors import UserError


def write_atomically(path: pathlib.Path, contents: str | bytes) -> None:
    """Writes a file so that neither a reader nor a crash ever sees half of it.

    Text is written as UTF-8.

    Raises:
        OSError: the file cannot be written; what was there before is still there.
    """
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(contents.encode() if isinstance(contents, str) else contents)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def check_folder(path: str | os.PathLike, flag: str) -> None:
    """Raises UserError unless files can be written to a folder, made or not made yet.

    It is tried out where the folder is or would be, and nothing is left behind.

    Args:
        path: of the folder.
        flag: the flag that named it, for the message.
    """
    name = os.fspath(path)
    if not name.isprintable():
        raise UserError(
            f"--{flag}={name} has characters that cannot be printed; choose another "
            "name"
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
    """The folder itself, or the nearest one above it that exists."""
    try:
        path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise OSError(0, "it is a link to nothing") from None
        return _nearest_existing(path.parent)
    return path
