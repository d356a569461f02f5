"""The pictures in a folder: their classes, and which of them are for testing.

The layout is that of most tools: a sub-folder for each class; or folders of training,
test and validation pictures, each with such sub-folders or a file of labels.
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
        ignored: number of files that are not pictures, by the ending of their names.
        drawn: whether the test pictures were drawn, because they have no folder.
        remarks: sentences that readers of the results must know.
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
    """Lists the pictures in a folder; those of each split are sorted by file name.

    With two folders, one of training pictures and one of test or validation pictures,
    the latter has the test pictures; with all three, each has its own. Otherwise a
    fifth of each class is for testing, rounded down but at least one of two: those
    whose names have the smallest SHA-256 with the seed, so that few change when
    pictures are added. Validation pictures are drawn in the same way from all training
    pictures, from each class in proportion.

    Files that are not pictures (see `picture_files`) are ignored; symbolic links are
    followed.

    Args:
        directory: the folder.
        split_seed: seed of the draw.
        validation_size: number of training pictures to hold out.

    Raises:
        UserError: the layout is a different one, or a split or class is empty.
        OSError: a folder cannot be read.
    """
    reader = _Reader(splits.find_root(directory))
    found = reader.read(split_seed)
    if not found.test:
        raise UserError(
            f"{found.root} has no test pictures; put at least two pictures into a "
            "class, or some into train/CLASS and others into test/CLASS"
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
        """Returns the listing; draws test pictures if necessary."""
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
        """Lists a split, sorted by file name; None if it has no labels."""
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
        """Returns the pictures in class folders."""
        loose = sum(has_picture_name(file.name) for file in folder.iterdir())
        if loose:
            self._remarks.append(
                f"{loose} pictures in {folder} are in no class folder; not used."
            )
        entries = splits.list_folders(folder)
        if splits.are_not_classes(entry.name for entry in entries):
            names = " and ".join(sorted(entry.name for entry in entries))
            raise UserError(
                f"{folder} has {names}, which name no classes; put the pictures of "
                "each class into a sub-folder named after the class"
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
        """Returns the pictures of a split by a file of labels; None without a file."""
        files = sorted(self._files(flat))
        names = [path.name for path, _ in files]
        labels = label_files.find(self._root, folder, split, names) if files else None
        if labels is None:
            if split == TRAIN or not files:
                raise UserError(self._explain_unlabeled(folder, len(files)))
            self._remarks.append(
                f"The {len(files)} pictures in {folder} have no labels, neither from "
                "class folders nor from a file; not used."
            )
            return None
        if labels.unused:
            self._remarks.append(
                f"{labels.unused} lines of {labels.file} match no picture in {folder}."
            )
        for name in sorted(set(labels.names)):
            if not name.isprintable():
                raise UserError(f"{labels.file}: {name!r} cannot name a class")
        return [(*file, name) for file, name in zip(files, labels.names, strict=True)]

    def _explain_unlabeled(self, folder: Path, count: int) -> str:
        """Explains what is wrong with a folder that should have class folders."""
        problem = f"{folder} has no pictures in sub-folders"
        if not count and (packed := archive_names.list_archives(self._root)):
            return f"{problem}; unpack {packed[0]} first"
        if count:
            problem += f" ({count} are directly in it, and so have no class)"
        return (
            f"{problem}; put those of each class into a sub-folder named after the "
            f"class, or write their labels into {self._root / 'trainLabels.csv'}, "
            "a line such as 1.png,cat for each"
        )

    def _files(self, folder: Path) -> list[tuple[Path, str]]:
        """Returns the path and name of each picture, and counts the other files."""
        place = "".join(f"{part}/" for part in folder.relative_to(self._root).parts)
        # macOS stores accents as separate characters.
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
    """Returns the folder of a class's pictures: itself, or its only folder, `images`.

    Raises:
        UserError: it contains other folders.
    """
    if inner := splits.list_folders(folder):
        flat = splits.find_flat(folder)
        if flat is None or any(has_picture_name(f.name) for f in folder.iterdir()):
            raise UserError(
                f"{folder} should contain the pictures of a class, but has a folder "
                f"{inner[0].name}; set --data_dir to the folder of all classes, or to "
                "one with train and test in it"
            )
        return flat
    return folder
