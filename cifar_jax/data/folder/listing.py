"""The pictures in a folder: their classes, and which of them are for testing.

The layout is that of most tools: a sub-folder for each class, or folders of training,
test and validation pictures with those sub-folders, or a file of labels, for each.
"""

import dataclasses
import os
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from cifar_jax.data import archive_names
from cifar_jax.data.folder import draw, label_files, splits
from cifar_jax.data.folder.draw import Picture
from cifar_jax.data.folder.picture_files import ending, has_picture_name, is_picture
from cifar_jax.data.folder.splits import TEST, TRAIN, VALIDATION
from cifar_jax.errors import UserError

# The path of a picture, its path in the folder, and its class.
_Found = tuple[Path, str, str]


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a folder contains.

    Attributes:
        root: the folder of the splits or classes; the given one, or one in it.
        class_names: the names of the classes, sorted.
        train: the training pictures.
        validation: the held-out training pictures; may be empty.
        test: the test pictures.
        ignored: numbers of files that are no pictures by the endings of their names.
        drawn: whether the test pictures were drawn, because there is no folder of them.
        remarks: sentences that a reader of results must know.
    """

    root: Path
    class_names: tuple[str, ...]
    train: tuple[Picture, ...]
    validation: tuple[Picture, ...]
    test: tuple[Picture, ...]
    ignored: Mapping[str, int]
    drawn: bool
    remarks: tuple[str, ...]


def find(directory: Path, split_seed: int = 0, validation_size: int = 0) -> Listing:
    """Lists the pictures in a folder, those of each split in the order of file names.

    With folders of training and test, or training and validation pictures, the second
    has the test pictures; with all three, the validation pictures are those of their
    folder. Otherwise a fifth of each class is for testing, rounded down but at least
    one of two: those whose names have the smallest SHA-256 with the seed, so that few
    change when pictures are added. Pictures for validation are drawn likewise from all
    training pictures, each class in proportion.

    What is no picture, see `picture_files`, is ignored; symbolic links are followed.

    Args:
        directory: the folder.
        split_seed: seed of the draw.
        validation_size: number of training pictures to hold out.

    Raises:
        UserError: the layout is another one, or a split or a class is empty.
        OSError: a folder cannot be read.
    """
    reader = _Reader(splits.find_root(directory))
    found = reader.read(split_seed)
    if not found.test:
        raise UserError(
            f"{found.root} has no test pictures; have at least two pictures in a "
            "class, or some in train/CLASS and others in test/CLASS"
        )
    if validation_size == 0:
        return found
    if found.validation:
        raise UserError(
            f"--validation_size={validation_size} would hold out more pictures than "
            f"those in {splits.find(found.root)[VALIDATION]}; leave it out"
        )
    train, held_out = draw.split_off_validation(
        found.train, validation_size, split_seed
    )
    return dataclasses.replace(found, train=tuple(train), validation=tuple(held_out))


class _Reader:
    """Reads the folders of a data set."""

    def __init__(self, root: Path):
        self._root = root
        self._class_names: tuple[str, ...] = ()
        self._ignored: Counter[str] = Counter()
        self._remarks: list[str] = []

    def read(self, split_seed: int) -> Listing:
        """Returns the listing, for which test pictures are drawn if need be."""
        folders = splits.find(self._root) or {TRAIN: self._root}
        found = {}
        for split in (TRAIN, VALIDATION, TEST):
            pictures = self._split(split, folders[split]) if split in folders else None
            if pictures is not None:
                found[split] = pictures
        if TEST not in found and VALIDATION in found:
            found[TEST] = found.pop(VALIDATION)
        drawn = TEST not in found
        if drawn:
            found[TRAIN], found[TEST] = draw.split_off_test(found[TRAIN], split_seed)
        if len(self._class_names) == 1:
            self._remarks.append(
                f"There is only one class, {self._class_names[0]!r}, so every network "
                "is always right."
            )
        return Listing(
            self._root,
            self._class_names,
            tuple(found[TRAIN]),
            tuple(found.get(VALIDATION, [])),
            tuple(found[TEST]),
            self._ignored,
            drawn,
            tuple(self._remarks),
        )

    def _split(self, split: str, folder: Path) -> list[Picture] | None:
        """Lists a split, in the order of file names; None if it has no labels."""
        flat = splits.find_flat(folder)
        found = self._find_in_classes(folder, split) if flat is None else None
        if flat is not None:
            found = self._find_in_file(flat, folder, split)
        if found is None:
            return None
        if split == TRAIN:
            self._class_names = tuple(sorted({name for _, _, name in found}))
        labels = {name: label for label, name in enumerate(self._class_names)}
        for name in {name for _, _, name in found} - labels.keys():
            raise UserError(
                f"{name!r} in {folder} is a class without training pictures; add some, "
                "or remove it"
            )
        pictures = [Picture(path, place, labels[name]) for path, place, name in found]
        return sorted(pictures, key=lambda picture: (picture.path.name, picture.label))

    def _find_in_classes(self, folder: Path, split: str) -> list[_Found]:
        """Returns the pictures in folders of classes."""
        loose = sum(has_picture_name(file.name) for file in folder.iterdir())
        if loose:
            self._remarks.append(
                f"{loose} pictures in {folder} are in no folder of a class; not used."
            )
        entries = splits.list_folders(folder)
        if splits.are_not_classes(entry.name for entry in entries):
            names = " and ".join(sorted(entry.name for entry in entries))
            raise UserError(
                f"{folder} has {names}, which name no classes; put the pictures of "
                "each class into a sub-folder with the name of the class"
            )
        pictures = []
        for entry in entries:
            name = unicodedata.normalize("NFC", entry.name)
            if not name.isprintable():
                raise UserError(f"{entry.path} cannot name a class; rename the folder")
            if split != TRAIN and name not in self._class_names:
                raise UserError(
                    f"{entry.path} is a class without training pictures; add some, or "
                    "remove it"
                )
            files = self._files(_class_folder(Path(entry)))
            if not files and split == TRAIN:
                raise UserError(
                    f"{entry.path} contains no pictures; add some, or remove it"
                )
            pictures += [(path, place, name) for path, place in files]
        return pictures

    def _find_in_file(
        self, flat: Path, folder: Path, split: str
    ) -> list[_Found] | None:
        """Returns the pictures of a split by a file of labels, if there is one."""
        files = sorted(self._files(flat))
        names = [path.name for path, _ in files]
        labels = label_files.find(self._root, folder, split, names) if files else None
        if labels is None:
            if split == TRAIN or not files:
                raise UserError(self._explain_unlabeled(folder, len(files)))
            self._remarks.append(
                f"The {len(files)} pictures in {folder} have no labels, neither by "
                "folders of classes nor in a file; not used."
            )
            return None
        if labels.unused:
            self._remarks.append(
                f"{labels.unused} lines of {labels.file} are of no picture in {folder}."
            )
        for name in sorted(set(labels.names)):
            if not name.isprintable():
                raise UserError(f"{labels.file}: {name!r} cannot name a class")
        return [(*file, name) for file, name in zip(files, labels.names, strict=True)]

    def _explain_unlabeled(self, folder: Path, count: int) -> str:
        """Says what is wrong with a folder that should have folders of classes."""
        problem = f"{folder} has no pictures in sub-folders"
        if not count and (packed := archive_names.list_archives(self._root)):
            return f"{problem}; unpack {packed[0]} first"
        if count:
            problem += f" ({count} are directly in it, and so of no class)"
        return (
            f"{problem}; put those of each class into a sub-folder with the name of "
            f"the class, or write their labels into {self._root / 'trainLabels.csv'}, "
            "a line such as 1.png,cat for each"
        )

    def _files(self, folder: Path) -> list[tuple[Path, str]]:
        """Returns path and name of each picture, and counts what else there is."""
        place = "".join(f"{part}/" for part in folder.relative_to(self._root).parts)
        # macOS stores accents as characters of their own.
        place = unicodedata.normalize("NFC", place)
        pictures = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name[:1] == "." or entry.is_dir():
                    continue
                if is_picture(entry):
                    pictures.append((Path(entry), place + entry.name))
                else:
                    self._ignored[ending(entry.name)] += 1
        return pictures


def _class_folder(folder: Path) -> Path:
    """Returns the folder of a class's pictures: itself, or the only one in it, images.

    Raises:
        UserError: it contains other folders.
    """
    if inner := splits.list_folders(folder):
        flat = splits.find_flat(folder)
        if flat is None or any(has_picture_name(f.name) for f in folder.iterdir()):
            raise UserError(
                f"{folder} should contain the pictures of a class, but has a folder "
                f"{inner[0].name}; give --data_dir the folder of all classes, or one "
                "with train and test in it"
            )
        return flat
    return folder
