"""Checksums of all files in a folder, in a file for `sha256sum -c SHA256SUMS`."""

import hashlib
import os
import pathlib
import re

from cifar_jax.errors import RunError
from cifar_jax.runs.files import is_litter

_SUMS = "SHA256SUMS"


def write(folder: pathlib.Path) -> None:
    """Writes the checksums of the files in a folder."""
    sums = "".join(
        f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n"
        for path in _files(folder)
    )
    with (folder / _SUMS).open("w", encoding="utf-8", newline="\n") as file:
        file.write(sums)
        file.flush()
        os.fsync(file.fileno())


def verify(folder: pathlib.Path, name: str) -> None:
    """Raises RunError unless a folder's files match its checksums exactly.

    Args:
        folder: the folder.
        name: what the message calls it.
    """
    damaged = f"{name} {folder} is damaged"
    try:
        listed = _read(folder, damaged)
        present = {p.relative_to(folder).as_posix(): p for p in _files(folder)}
        for file in sorted(listed.keys() | present.keys()):
            if file not in present:
                raise RunError(f"{damaged}: {file} is missing")
            if file not in listed:
                raise RunError(f"{damaged}: {file} is not in {_SUMS}")
            if _sha256(present[file]) != listed[file]:
                raise RunError(f"{damaged}: {file} has changed")
    except FileNotFoundError:
        raise RunError(f"{damaged}: it has no {_SUMS}") from None
    except OSError as error:
        raise RunError(
            f"{name} {folder} cannot be read: {error.strerror}; do all processes "
            "share this folder?"
        ) from None


def _read(folder: pathlib.Path, damaged: str) -> dict[str, str]:
    """Returns the listed checksums by file name."""
    path = folder / _SUMS
    if path.exists() and not path.is_file():
        raise RunError(f"{damaged}: {_SUMS} is not a file")
    listed = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if match is None:
            raise RunError(f"{damaged}: {_SUMS} is malformed")
        listed[match[2]] = match[1]
    return listed


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if not path.is_dir() and path != folder / _SUMS and not is_litter(path.name)
    )


def _sha256(path: pathlib.Path) -> str:
    if not path.is_file():  # Reading a FIFO would block forever.
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
