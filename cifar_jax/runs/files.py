"""Atomic file writes and checks that a folder is writable."""

import os
import pathlib
import tempfile

from cifar_jax.errors import UserError


def write_atomically(path: pathlib.Path, contents: str | bytes) -> None:
    """Writes a file atomically, so that neither a reader nor a crash sees half of it.

    Text is written as UTF-8.

    Raises:
        OSError: the file cannot be written; its previous contents are unchanged.
    """
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(contents.encode() if isinstance(contents, str) else contents)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def is_litter(name: str) -> bool:
    """Whether a file of this name is one that operating systems leave in any folder."""
    own = (".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini", ".directory")
    return name in own or name.startswith(("._", ".nfs"))


def check_folder(path: str | os.PathLike, flag: str) -> None:
    """Raises UserError unless files can be written to a folder, existing or not.

    The check creates temporary files where the folder is or would be and removes them.

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
