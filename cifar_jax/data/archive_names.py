"""Recognizes archives and unfinished downloads by file name."""

from pathlib import Path

_PACKED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz", ".xz", ".txz", ".7z", ".rar")
# Endings that browsers and download managers use until a file is complete.
_UNFINISHED = (".crdownload", ".part", ".partial", ".download", ".opdownload", ".!ut")


def is_unfinished(name: str) -> bool:
    """Returns whether a file name is that of an unfinished download."""
    return name.lower().endswith(_UNFINISHED)


def is_packed(name: str) -> bool:
    """Returns whether a file name is that of an archive."""
    return name.lower().endswith(_PACKED)


def list_archives(directory: Path) -> list[str]:
    """Returns the sorted names of the archives in a folder, complete or not.

    Raises:
        OSError: the folder cannot be read.
    """
    names = [path.name for path in directory.iterdir() if path.name[:1] != "."]
    return sorted(name for name in names if is_packed(name) or is_unfinished(name))
