"""Labels of pictures that are not in class folders, from a file next to them.

Kaggle's layout has train/*.png and trainLabels.csv, with lines such as `17,cat`. Tiny
ImageNet's has val/images/*.JPEG and val/val_annotations.txt, whose first two columns,
separated by tabs, are the file and its class.
"""

import csv
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cifar_jax.data.folder import splits
from cifar_jax.errors import UserError

_NAMED = 3  # pictures in a message


class Labels(NamedTuple):
    """The labels of pictures.

    Attributes:
        file: the file that they are from.
        names: the class of each picture.
        unused: number of lines that match no picture.
    """

    file: Path
    names: tuple[str, ...]
    unused: int


def find(
    root: Path, folder: Path, split: str, pictures: Sequence[str]
) -> Labels | None:
    """Returns the labels of pictures, or None if no file has them.

    The file is in the split's folder, or next to it and named after the split. The
    training pictures' file may have another name, such as labels.csv.

    Args:
        root: the folder of the splits.
        folder: the folder of this split.
        split: one of `splits.TRAIN`, `splits.TEST`, `splits.VALIDATION`.
        pictures: the file names of the pictures.

    Raises:
        UserError: the file cannot be read, lacks pictures, or contradicts another one.
    """
    found = []
    for file in _candidates(root, folder, split):
        table = _read(file)
        if table and (labels := _labels(file, table, pictures)):
            found.append(labels)
    if len({labels.names for labels in found}) > 1:
        names = " and ".join(str(labels.file) for labels in found)
        raise UserError(
            f"{names} have different labels for {folder}; remove all but one"
        )
    return found[0] if found else None


def _candidates(root: Path, folder: Path, split: str) -> list[Path]:
    inside = [] if folder == root else _tables(folder)
    beside = [file for file in _tables(root) if _split_in(file.stem) == split]
    return inside + beside


def _tables(folder: Path) -> list[Path]:
    # A sample submission has picture ids, but not their labels.
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in (".csv", ".tsv", ".txt")
        and file.name[:1] != "."
        and "submission" not in file.name.lower()
        and file.is_file()
    )


def _split_in(stem: str) -> str:
    """Returns the split in a file's name, such as trainLabels or val_annotations."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", stem)
    found = [split for word in words if (split := splits.find_split(word))]
    return found[0] if found else splits.TRAIN


def _read(file: Path) -> dict[str, str]:
    """Returns a table's second column by the first; empty if it has other columns.

    Comma-separated tables must have two columns; tab-separated ones may have more.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            start = lines.readline()
            lines.seek(0)
            delimiter = next((d for d in "\t;," if d in start), ",")
            rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise UserError(
            f"the labels in {file} cannot be read ({error}); save it as CSV in UTF-8"
        ) from None
    tabs = delimiter == "\t"
    if tabs is (file.suffix.lower() == ".csv"):
        return {}
    if any(len(row) < 2 or (len(row) > 2 and not tabs) for row in rows):
        return {}
    table: dict[str, str] = {}
    for row in rows:
        name, label = PurePosixPath(row[0].strip()).name, row[1].strip()
        if table.setdefault(name, label) != label:
            raise UserError(f"{file} has two labels for {name}: {table[name]}, {label}")
    return table


def _labels(
    file: Path, table: dict[str, str], pictures: Sequence[str]
) -> Labels | None:
    """Returns the labels of pictures, which a table lists with or without endings."""
    # The name that the table has for each picture.
    known = {n: n if n in table else PurePosixPath(n).stem for n in pictures}
    missing = [name for name, key in known.items() if not table.get(key)]
    if len(missing) == len(pictures):
        return None
    if missing:
        some = ", ".join(missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
        raise UserError(
            f"{file} has no labels for {len(missing)} of {len(pictures)} pictures "
            f"({some}); add them, or remove these pictures"
        )
    used = set(known.values())
    header = next(iter(table)) not in used
    labels = tuple(table[key] for key in known.values())
    return Labels(file, labels, len(table) - len(used) - header)
