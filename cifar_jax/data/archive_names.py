"""Tells by their names which files are packed, or not yet downloaded."""

from pathlib import Path

_PACKED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz", ".xz", ".txz", ".7z", ".rar")
# As browsers and download managers name files until they are complete.
_UNFINISHED = (".crdownload", ".part", ".partial", ".download", ".opdownload", ".!ut")


def is_unfinished(name: str) -> bool:
    """Whether a file is named as one whose download has not finished."""
    return name.lower().endswith(_UNFINISHED)


def is_packed(name: str) -> bool:
    """Whether a file is named as an archive."""
    return name.lower().endswith(_PACKED)


def list_archives(directory: Path) -> list[str]:
    """Returns the sorted names of archives in a folder, complete or not.

    Raises:
        OSError: the folder cannot be read.
    """
    names = [path.name for path in directory.iterdir() if path.name[:1] != "."]
    return sorted(name for name in names if is_packed(name) or is_unfinished(name))
