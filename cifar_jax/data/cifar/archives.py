"""Reads the three official archives of a data set, packed or unpacked.

An archive is a file from the internet, so nothing in it is trusted. Nothing is
extracted to disk: the files with images are looked up by name and read into memory,
every read is bounded, and shapes and labels are checked. Any defect raises a UserError.
"""

import contextlib
import gzip
import io
import re
import tarfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from cifar_jax.data.cifar.batch_files import PIXELS
from cifar_jax.data.cifar.published import HOME_PAGE, Layout, Part, Published
from cifar_jax.data.cifar.records import Records
from cifar_jax.data.failure import reason
from cifar_jax.errors import UserError

# The official archives unpack to at most 187 MB, and their files to about 3,200 bytes
# per record, image names included.
MAX_ARCHIVE_BYTES = 256_000_000
MAX_BYTES_PER_RECORD = 4_000


def find(published: Published, data_dir: Path) -> tuple[Path, Layout] | None:
    """Finds an archive or unpacked folder in a directory, or one level down.

    An archive may also have the name that a browser gives a second copy, or that TFDS
    or Keras gives it, and the directory itself may be an unpacked folder.

    Raises:
        OSError: missing permissions make it impossible to tell.
    """
    if found := _find_in(published, data_dir):
        return found
    if not data_dir.is_dir():
        return None
    # TFDS keeps archives in downloads, and unpacks them into downloads/extracted.
    below = [data_dir, data_dir / "downloads", data_dir / "downloads" / "extracted"]
    for parent in below:
        for folder in filter(Path.is_dir, _entries(parent)):
            with contextlib.suppress(OSError):  # such as another user's folder
                if found := _find_in(published, folder):
                    return found
    return None


def _entries(folder: Path) -> list[Path]:
    """Returns the sorted entries of a folder; none if it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _find_in(published: Published, folder: Path) -> tuple[Path, Layout] | None:
    """Finds an archive or unpacked folder in a folder, or the folder itself."""
    for layout in published.layouts:
        if is_there(folder / layout.archive):
            return folder / layout.archive, layout
    parts = (*published.train, *published.test)
    for layout in published.layouts:
        if is_there(folder / layout.folder):
            return folder / layout.folder, layout
        files = [folder / layout.file(part) for part in parts]
        # Folders named train and test are not the python files of CIFAR-100.
        if any(is_there(file) and not file.is_dir() for file in files):
            return folder, layout
    present = list(filter(Path.is_file, _entries(folder)))
    for layout in published.layouts:
        pattern = rf".*({layout.stem}|{layout.folder}).*\.(tar|tar\.gz|tgz)"
        for path in present:
            if re.fullmatch(pattern, path.name):
                return path, layout
    return None


def is_there(path: Path) -> bool:
    """Returns whether the path exists, even if only as a dangling symbolic link.

    Raises:
        OSError: missing permissions make it impossible to tell.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def read(published: Published, path: Path, layout: Layout) -> tuple[Records, Records]:
    """Reads the training and test images of an archive or an unpacked folder.

    Raises:
        UserError: some part of it is damaged, missing or not as expected.
    """
    train, test = (
        Records.empty(count, len(published.labels)) for count in published.counts
    )
    parts = (
        *_iterate_parts(train, published.train),
        *_iterate_parts(test, published.test),
    )
    wanted = {layout.file(part): records for part, records in parts}
    limits = {name: _max_bytes(records) for name, records in wanted.items()}
    try:
        files = _folder_files if path.is_dir() else _archive_files
        for name, contents in files(path, layout, limits):
            _decode(published, layout, name, contents, wanted.pop(name))
        for name in wanted:
            raise ValueError(f"it has no file {layout.folder}/{name}")
    except _OtherCountError as error:
        raise UserError(
            f"{path} is not {published.title}: {error}; get a fresh copy of "
            f"{layout.archive} from {HOME_PAGE}, or load your own pictures from a "
            "folder with --dataset=folder"
        ) from error
    except Exception as error:  # parsers can raise almost anything on hostile input
        raise UserError(
            f"{path} cannot be read as {published.title}: {reason(error)}; get a fresh "
            f"copy of {layout.archive} from {HOME_PAGE}"
        ) from error
    return train, test


def _iterate_parts(
    records: Records, parts: Sequence[Part]
) -> Iterator[tuple[Part, Records]]:
    """Yields each part with a view of its share of the records."""
    start = 0
    for part in parts:
        yield part, records[start : start + part.records]
        start += part.records


def _max_bytes(records: Records) -> int:
    """Returns an upper bound for the size of a file with these records."""
    return len(records) * MAX_BYTES_PER_RECORD


def _archive_files(
    path: Path, layout: Layout, limits: dict[str, int]
) -> Iterator[tuple[str, bytes]]:
    """Yields the names and contents of an archive's files, in archive order."""
    contents = io.BytesIO(_unpack(path))
    with tarfile.open(fileobj=contents, mode="r:") as archive:
        for name, member in _members(archive, layout, limits).items():
            if not member.isreg() or member.issparse():
                raise ValueError(f"{member.name} is not a plain file")
            if member.size > limits[name]:
                raise ValueError(f"{member.name} claims to be {member.size:,} bytes")
            file = archive.extractfile(member)
            assert file is not None, "tarfile opens every regular member"
            yield name, file.read()


def _unpack(path: Path) -> bytes:
    """Returns the tar archive in a file that may be packed by gzip.

    It is unpacked in full before tarfile sees it: the limit on this one read bounds all
    later ones, and gzip's trailing checksum has then verified every byte.
    """
    if not path.is_file():  # reading a FIFO would block forever
        raise ValueError("it is not a regular file")
    with path.open("rb") as file:
        is_packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if is_packed else path.open("rb") as file:
        unpacked = file.read(MAX_ARCHIVE_BYTES + 1)
    if len(unpacked) > MAX_ARCHIVE_BYTES:
        raise ValueError(f"it unpacks to more than {MAX_ARCHIVE_BYTES:,} bytes")
    return unpacked


def _members(
    archive: tarfile.TarFile, layout: Layout, names: Collection[str]
) -> dict[str, tarfile.TarInfo]:
    """Returns the members with these names in the layout's folder, wherever that is.

    In a repacked archive, the folder may have another name.
    """
    folders: dict[PurePosixPath, dict[str, tarfile.TarInfo]] = {}
    for member in archive:
        place = PurePosixPath(member.name)
        if place.name in names and not place.is_absolute() and ".." not in place.parts:
            folders.setdefault(place.parent, {}).setdefault(place.name, member)
    named = [found for place, found in folders.items() if place.name == layout.folder]
    return next(iter([*named, *folders.values()]), {})


def _folder_files(
    path: Path, layout: Layout, limits: dict[str, int]
) -> Iterator[tuple[str, bytes]]:
    """Yields the names and contents of an unpacked folder's files."""
    for name, limit in limits.items():
        if not (path / name).is_file():  # reading a FIFO would block forever
            raise ValueError(f"it has no regular file {name}")
        with (path / name).open("rb") as file:
            contents = file.read(limit + 1)
        if len(contents) > limit:
            raise ValueError(f"{name} is over {limit:,} bytes long")
        yield name, contents


class _OtherCountError(ValueError):
    """A file has images like CIFAR's, but a different number of them."""


def _decode(
    published: Published, layout: Layout, name: str, contents: bytes, into: Records
) -> None:
    """Decodes a file, validates it and writes it into records."""
    keys = [kind.key for kind in published.labels]
    try:
        pixels, labels = layout.format.decode(contents, keys, _max_bytes(into))
        _check(published, pixels, labels, len(into))
    except Exception as error:
        kind = _OtherCountError if isinstance(error, _OtherCountError) else ValueError
        raise kind(f"{name}: {error}") from error
    # Each image is stored as three planes (red, green, blue) in row-major order.
    into.images[...] = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    into.labels[...] = labels


def _check(
    published: Published, pixels: np.ndarray, labels: np.ndarray, count: int
) -> None:
    """Raises ValueError unless pixels and labels are those of `count` images."""
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (PIXELS,):
        raise ValueError(
            f"the pixels are {pixels.dtype} {pixels.shape}, not uint8 {(count, PIXELS)}"
        )
    if len(pixels) != count:
        raise _OtherCountError(f"it has {len(pixels):,} images, not {count:,}")
    if labels.shape != (count, len(published.labels)):
        raise ValueError(f"there are {len(labels)} labels, not {count}")
    published.check_labels(labels)
