"""Finds the folders of training, validation and test pictures by their names."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from cifar_jax.data.folder.picture_files import has_picture_name, is_own_folder
from cifar_jax.errors import UserError

TRAIN, TEST, VALIDATION = "train", "test", "val"
_WORDS = {
    TRAIN: "train|training",
    TEST: "test|testing",
    VALIDATION: "val|valid|validation|validate|eval|evaluation|dev",
}
# What people add to these words: train_images, seg_train, Test Set, val2017.
_MORE = "(?:data|dataset|set|split|images?|imgs?|pictures?|photos?|seg)?"
_NAMES = {
    split: re.compile(f"{_MORE}(?:{words}){_MORE}") for split, words in _WORDS.items()
}
_PICTURES = re.compile("images?|imgs?|pictures?|pics|photos?")
# What detection and segmentation data sets put next to them.
_ANNOTATIONS = re.compile("masks?|labels?|annotations?|boxes|groundtruth|gt")
# Down to this depth, folders with only one folder in them are entered.
_DEPTH = 4


def find_split(name: str) -> str | None:
    """Returns the split that a name stands for: TRAIN, TEST or VALIDATION, or None.

    Case, digits and punctuation do not matter: Train, training_set, val2017.
    """
    letters = re.sub(r"[\W\d_]+", "", name.lower())
    return next((s for s, names in _NAMES.items() if names.fullmatch(letters)), None)


def list_folders(directory: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """Returns the folders in a folder, except for hidden and system folders.

    Raises:
        OSError: the folder cannot be read.
    """
    with os.scandir(directory) as entries:
        return [e for e in entries if e.is_dir() and is_own_folder(e.name)]


def are_not_classes(names: Iterable[str]) -> bool:
    """Returns whether names are those of pictures and annotations: images and masks."""
    names = [name.lower() for name in names]
    pictures = sum(map(bool, map(_PICTURES.fullmatch, names)))
    annotations = sum(map(bool, map(_ANNOTATIONS.fullmatch, names)))
    return 0 < pictures < len(names) == pictures + annotations


def find_flat(directory: Path) -> Path | None:
    """Returns the folder whose pictures are not in class folders, or None.

    It is the given one, or the folder `images` in it, if there is no other.
    """
    inner = list_folders(directory)
    if not inner:
        return directory
    if len(inner) == 1 and _PICTURES.fullmatch(inner[0].name.lower()):
        return None if list_folders(inner[0]) else Path(inner[0])
    return None


def find_root(directory: Path) -> Path:
    """Returns the folder of splits or classes, descending while there is only one.

    Archives often have one folder with everything; and with no other folder next to
    it, train has all classes.

    Raises:
        OSError: a folder cannot be read.
    """
    for _ in range(_DEPTH):
        inner = list_folders(directory)
        if len(inner) != 1:
            break
        only = Path(inner[0])
        if find_flat(only) or any(
            has_picture_name(file.name) for file in only.iterdir()
        ):
            break
        directory = only
    return directory


def find(directory: Path) -> dict[str, Path]:
    """Returns the folder of each split; none if the folders are class folders.

    They are split folders if all are named like one, or if one is named like training
    pictures and another one like test or validation pictures.

    Raises:
        UserError: it is unclear which folders are split folders.
        OSError: the folder cannot be read.
    """
    found: dict[str, list[str]] = {}
    others: list[str] = []
    for name in sorted(folder.name for folder in list_folders(directory)):
        split = find_split(name)
        (others if split is None else found.setdefault(split, [])).append(name)
    complete = TRAIN in found and len(found) > 1
    if not found or (others and not complete):
        return {}
    first = {split: names[0] for split, names in found.items()}
    if others:
        train, second = first.pop(TRAIN), min(first.values())
        raise UserError(
            f"{directory} has {train} and {second}, but also {others[0]}; move classes "
            "into them, and other folders elsewhere"
        )
    for split, names in found.items():
        if len(names) > 1:
            raise UserError(
                f"{directory} has {' and '.join(names)}, which both stand for {split}; "
                "move the pictures into one of them"
            )
    if TRAIN not in found:
        present = " and ".join(sorted(first.values()))
        raise UserError(
            f"{directory} has no folder train next to {present}; rename the folder of "
            "training pictures to train, or if these are classes, rename them"
        )
    return {split: directory / name for split, name in first.items()}
