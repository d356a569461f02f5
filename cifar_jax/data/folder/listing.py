"""The pictures in a folder: their classes, and which of them are for testing.

The layout is that of most tools: a sub-folder for each class, or folders train, test
and val with those sub-folders in each.
"""

import dataclasses
import hashlib
import itertools
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cifar_jax.data.folder.pictures import may_be_picture
from cifar_jax.errors import UserError

_TRAIN, _TEST, _VALIDATION = "train", "test", "val"
# Without a folder of test pictures, one in this many of each class is for testing.
TEST_SHARE = 5


@dataclasses.dataclass(frozen=True)
class Picture:
    """A file that should be a picture.

    Attributes:
        path: of the file.
        name: its path in the folder, with slashes.
        label: of its class.
    """

    path: Path
    name: str
    label: int


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a folder contains.

    Attributes:
        class_names: the sub-folders' names, sorted.
        train: the training pictures.
        validation: the held-out training pictures; may be empty.
        test: the test pictures.
        ignored: number of files that are not pictures by their names.
        drawn: whether the test pictures were drawn, because there is no folder of them.
    """

    class_names: tuple[str, ...]
    train: tuple[Picture, ...]
    validation: tuple[Picture, ...]
    test: tuple[Picture, ...]
    ignored: int
    drawn: bool


def find(directory: Path, split_seed: int = 0, validation_size: int = 0) -> Listing:
    """Lists the pictures in a folder, those of each split in the order of file names.

    With folders train and test, or train and val, the second has the test pictures;
    with all three, val has the validation pictures. Otherwise a fifth of each class is
    for testing, rounded down but at least one of two: those whose names have the
    smallest SHA-256 with the seed, so that few change when pictures are added. Pictures
    for validation are drawn likewise from all training pictures, each class in
    proportion.

    Files whose names begin with a dot or end like those of other kinds of files are
    ignored; symbolic links are followed.

    Args:
        directory: the folder.
        split_seed: seed of the draw.
        validation_size: number of training pictures to hold out.

    Raises:
        UserError: the layout is another one, or a split or a class is empty.
        OSError: a folder cannot be read.
    """
    top = _folders(directory)
    names = {folder.name for folder in top}
    split_names = {_TRAIN, _TEST, _VALIDATION}
    if _TRAIN not in names or len(names & split_names) == 1:
        class_names, pictures, ignored = _in_classes(directory, "")
        train, test = _drawn_tests(pictures, split_seed)
        found = Listing(class_names, tuple(train), (), tuple(test), ignored, True)
    elif others := sorted(names - split_names):
        raise UserError(
            f"{directory} has train and {min(names & {_TEST, _VALIDATION})}, but also "
            f"{others[0]}; move classes into them, and other folders elsewhere"
        )
    else:
        found = _in_splits(directory, names)
    if not found.test:
        raise UserError(
            f"{directory} has no test pictures; put some into {directory / _TEST}, in "
            "folders of their classes, or have at least two pictures in a class"
        )
    if validation_size == 0:
        return found
    if found.validation:
        raise UserError(
            f"--validation_size={validation_size} would hold out more pictures than "
            f"those in {directory / _VALIDATION}; leave it out"
        )
    train, held_out = _drawn_validation(found.train, validation_size, split_seed)
    return dataclasses.replace(found, train=tuple(train), validation=tuple(held_out))


def _in_splits(directory: Path, names: set[str]) -> Listing:
    """Lists the folders train and test, train and val, or all three."""
    class_names, train, ignored = _in_classes(directory / _TRAIN, _TRAIN)
    others = {}
    for split in sorted(names - {_TRAIN}):
        _, others[split], more = _in_classes(directory / split, split, class_names)
        ignored += more
    test = others.pop(_TEST if _TEST in others else _VALIDATION)
    validation = others.pop(_VALIDATION, [])
    return Listing(
        class_names, tuple(train), tuple(validation), tuple(test), ignored, False
    )


def _in_classes(
    directory: Path, split: str, known: tuple[str, ...] | None = None
) -> tuple[tuple[str, ...], list[Picture], int]:
    """Lists a folder of classes.

    Args:
        directory: the folder.
        split: its name; empty if it is the whole.
        known: the classes that there may be; None: any, but none may be empty.

    Returns:
        The class names, the pictures in the order of file names, and the number of
        files that were ignored.
    """
    # macOS stores accents as characters of their own; the same data should have the
    # same class names everywhere.
    folders = {unicodedata.normalize("NFC", f.name): f for f in _folders(directory)}
    if not folders:
        raise UserError(
            f"{directory} has no pictures in sub-folders; put those of each class into "
            "a sub-folder with the name of the class"
        )
    class_names = known or tuple(sorted(folders))
    pictures, ignored = [], 0
    for name, folder in folders.items():
        if not name.isprintable():
            raise UserError(f"{folder.path} cannot name a class; rename the folder")
        if name not in class_names:
            raise UserError(
                f"{folder.path} is a class without training pictures; add some, or "
                "remove it"
            )
        files, skipped = _picture_files(folder)
        if not files and known is None:
            raise UserError(
                f"{folder.path} contains no pictures; add some, or remove it"
            )
        prefix = f"{split}/{name}" if split else name
        label = class_names.index(name)
        pictures += [Picture(Path(f), f"{prefix}/{f.name}", label) for f in files]
        ignored += skipped
    pictures.sort(key=lambda picture: (picture.path.name, picture.label))
    return class_names, pictures, ignored


def _folders(directory: Path) -> list[os.DirEntry[str]]:
    with os.scandir(directory) as entries:
        return [e for e in entries if e.is_dir() and not e.name.startswith(".")]


def _picture_files(folder: os.DirEntry[str]) -> tuple[list[os.DirEntry[str]], int]:
    """Returns what should be pictures in the folder of a class, and how much else is.

    Raises:
        UserError: it contains folders.
    """
    pictures, others = [], 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                raise UserError(
                    f"{folder.path} should contain the pictures of a class, but has a "
                    f"folder {entry.name}; give --data_dir the folder of all classes, "
                    "or one with train and test in it"
                )
            if may_be_picture(entry.name):
                pictures.append(entry)
            else:
                others += 1
    return pictures, others


def _drawn_tests(
    pictures: Sequence[Picture], seed: int
) -> tuple[list[Picture], list[Picture]]:
    """Splits pictures into those for training and those for testing."""
    count = Counter(picture.label for picture in pictures)
    chosen: Counter[int] = Counter()
    test = set()
    for picture in sorted(pictures, key=lambda picture: _rank(picture, seed)):
        total = count[picture.label]
        if chosen[picture.label] < (max(1, total // TEST_SHARE) if total > 1 else 0):
            chosen[picture.label] += 1
            test.add(picture)
    return _divided(pictures, test)


def _drawn_validation(
    pictures: Sequence[Picture], size: int, seed: int
) -> tuple[list[Picture], list[Picture]]:
    """Splits training pictures into those that stay and those that are held out.

    By systematic sampling: every so many in the order of classes, and within them in
    that of the draw, so that each class loses its share. One of each class stays.
    """
    ordered = sorted(
        pictures, key=lambda picture: (picture.label, _rank(picture, seed))
    )
    free = [b for a, b in itertools.pairwise(ordered) if a.label == b.label]
    if size > len(free):
        raise UserError(
            f"--validation_size={size} is too large: of {len(pictures)} training "
            f"pictures {len(free)} can be held out, as one of each class must stay"
        )
    held_out = {free[(2 * i + 1) * len(free) // (2 * size)] for i in range(size)}
    return _divided(pictures, held_out)


def _divided(
    pictures: Sequence[Picture], chosen: set[Picture]
) -> tuple[list[Picture], list[Picture]]:
    return (
        [picture for picture in pictures if picture not in chosen],
        [picture for picture in pictures if picture in chosen],
    )


def _rank(picture: Picture, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/".encode() + os.fsencode(picture.name)).digest()
