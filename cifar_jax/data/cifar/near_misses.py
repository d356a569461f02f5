"""Recognizes what a directory has instead of CIFAR-10: other data, or an odd copy."""

import os
import re
from pathlib import Path

from cifar_jax.data import archive_names
from cifar_jax.data.cifar.published import Published
from cifar_jax.data.folder.picture_files import has_picture_name
from cifar_jax.data.folder.splits import list_folders
from cifar_jax.errors import UserError

# Pictures are in class folders, those in split folders, and those in the data set's.
_DEPTH = 3
# CIFAR-10 in any spelling, but not CIFAR-100, CIFAR-10.1 or CIFAR-10-C.
_NAMED_SO = re.compile(r"cifar[\W_]?10(?!\d|\.1|[\W_]?c(?![a-z]))")
# At most about this many folders are searched.
_MOST_FOLDERS = 1000


def refuse(published: Published, directory: Path) -> None:
    """Raises UserError if a directory has something that the user probably meant.

    That is an archive of the data set with another name, packed in another way, or not
    fully downloaded; or the user's own pictures.

    Args:
        published: the data set.
        directory: the directory named for it, which has none of its files.

    Raises:
        OSError: the directory cannot be read.
    """
    for name in archive_names.list_archives(directory):
        if _NAMED_SO.search(name.lower()) and name != _own_partial(published):
            raise UserError(_explain_archive(published, directory / name))
    if place := _folder_of_pictures(directory):
        raise UserError(
            f"--data_dir={directory} has pictures in {place}, but not "
            f"{published.title}; pass --dataset=folder to train on these pictures, or "
            f"--dataset={published.name} to download {published.title} there"
        )


def refuse_stand_in(published: Published, directory: Path, problem: str) -> None:
    """Raises UserError unless a directory is empty: nobody means the digits by it.

    Args:
        published: the data set.
        directory: the directory named for it.
        problem: why the data set was not found.
    """
    if not directory.is_dir():
        return
    for name in archive_names.list_archives(directory):
        if name != _own_partial(published):
            raise UserError(_explain_archive(published, directory / name))
    if any(path.name[:1] != "." for path in directory.iterdir()):
        raise UserError(f"{problem}; or pass --dataset=digits for a stand-in")


def _own_partial(published: Published) -> str:
    """Returns the name of the file that our own interrupted downloads leave."""
    return f"{published.binary.archive}.partial"


def _explain_archive(published: Published, path: Path) -> str:
    """Explains what to do about an archive."""
    if archive_names.is_unfinished(path.name):
        return (
            f"{path} is an unfinished download; wait for it, or download "
            f"{published.binary.archive} again"
        )
    if _NAMED_SO.search(path.name.lower()) and _is_packed_tar(path.name):
        kinds = [kind for kind in ("python", "matlab") if kind in path.name.lower()]
        right = next(
            layout.archive
            for layout in published.layouts
            if (kinds or ["binary"])[0] in layout.archive
        )
        return f"{path} is not named {right}; rename it, if it is that archive"
    names = ", ".join(layout.archive for layout in published.layouts)
    return (
        f"{path} is not one of the archives of {published.title} ({names}); unpack it, "
        "and pass the folder as --data_dir, with --dataset=folder for pictures"
    )


def _is_packed_tar(name: str) -> bool:
    return name.lower().endswith((".tar.gz", ".tgz", ".gz"))


def _folder_of_pictures(directory: Path) -> Path | None:
    """Returns a folder with pictures, maybe the directory itself; None without any."""
    queue = [(directory, 0)]
    for place, depth in queue:
        try:
            if any(has_picture_name(name) for name in os.listdir(place)):  # noqa: PTH208
                return place
            inner = list_folders(place) if depth < _DEPTH else []
        except OSError:
            continue
        queue += [(Path(folder), depth + 1) for folder in sorted(inner, key=str)]
        if len(queue) > _MOST_FOLDERS:
            break
    return None
