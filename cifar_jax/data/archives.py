"""Reads the three official CIFAR-10 archives, packed or unpacked.

An archive is a file from the internet, so nothing in it is trusted. Nothing is
extracted to disk: the six batch files are looked up by name and read into memory,
every read is bounded, and shapes and labels are checked. Any defect raises a UserError.
"""

import dataclasses
import gzip
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cifar_jax.data import batch_files
from cifar_jax.data.dataset import Split, empty_images
from cifar_jax.data.failure import reason
from cifar_jax.errors import UserError

HOME_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
IMAGE_SHAPE = (32, 32, 3)
RECORDS_PER_BATCH = 10_000
_TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_BATCHES = (*_TRAIN_BATCHES, "test_batch")

_MAX_ARCHIVE_BYTES = 256_000_000  # the official ones unpack to at most 187 MB


@dataclasses.dataclass(frozen=True)
class Layout:
    """One of the three formats in which CIFAR-10 is published."""

    archive: str
    folder: str
    suffix: str
    decode: Callable[[bytes], batch_files.Batch]

    def file_names(self) -> dict[str, str]:
        """Returns the file name of each batch, in order."""
        return {batch: batch + self.suffix for batch in _BATCHES}


def find(data_dir: Path) -> tuple[Path, Layout] | None:
    """Finds an archive or unpacked folder in `data_dir`, or `data_dir` itself."""
    for layout in LAYOUTS:
        if is_there(data_dir / layout.archive):
            return data_dir / layout.archive, layout
    for layout in LAYOUTS:
        if is_there(data_dir / layout.folder):
            return data_dir / layout.folder, layout
        if any(is_there(data_dir / name) for name in layout.file_names().values()):
            return data_dir, layout
    return None


def is_there(path: Path) -> bool:
    """Whether the path exists, even if only as a dangling symbolic link.

    Raises:
        OSError: missing permissions make it impossible to tell.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def read(path: Path, layout: Layout) -> tuple[Split, Split]:
    """Reads the training and test images of an archive or an unpacked folder.

    Raises:
        UserError: a part of it is damaged, missing or not as expected.
    """
    train, test = (
        Split(empty_images(count, IMAGE_SHAPE), np.empty(count, np.int32))
        for count in (len(_TRAIN_BATCHES) * RECORDS_PER_BATCH, RECORDS_PER_BATCH)
    )
    parts = dict(zip(_BATCHES, (*_in_batches(train), test), strict=True))
    try:
        files = (_folder_files if path.is_dir() else _archive_files)(path, layout)
        for batch, contents in files:
            _decode(layout, batch, contents, parts.pop(batch))
        for batch in parts:
            raise ValueError(f"it has no file {layout.folder}/{batch}{layout.suffix}")
    except Exception as error:  # parsers can raise almost anything on hostile input
        raise UserError(
            f"{path} cannot be read as CIFAR-10: {reason(error)}; get a fresh copy of "
            f"{layout.archive} from {HOME_PAGE}"
        ) from error
    return train, test


def _in_batches(split: Split) -> list[Split]:
    """Returns a view of each batch file's share of a split."""
    return [
        Split(
            split.images[start : start + RECORDS_PER_BATCH],
            split.labels[start : start + RECORDS_PER_BATCH],
        )
        for start in range(0, len(split), RECORDS_PER_BATCH)
    ]


def _archive_files(path: Path, layout: Layout) -> Iterator[tuple[str, bytes]]:
    """Yields the batches of an archive as (batch, contents), in archive order."""
    # The archive is unpacked in full before tarfile sees it: the limit on this one read
    # bounds all later ones, and gzip's trailing checksum has then verified every byte.
    if not path.is_file():  # reading a FIFO would block forever
        raise ValueError("it is not a regular file")
    with gzip.open(path) as packed:
        unpacked = packed.read(_MAX_ARCHIVE_BYTES + 1)
    if len(unpacked) > _MAX_ARCHIVE_BYTES:
        raise ValueError(f"it unpacks to more than {_MAX_ARCHIVE_BYTES:,} bytes")
    wanted = {f"{layout.folder}/{n}": batch for batch, n in layout.file_names().items()}
    with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as archive:
        for member in archive:
            if member.name not in wanted:
                continue
            if not member.isreg() or member.issparse():
                raise ValueError(f"{member.name} is not a plain file")
            if member.size > batch_files.MAX_BYTES:
                raise ValueError(f"{member.name} claims to be {member.size:,} bytes")
            file = archive.extractfile(member)
            assert file is not None, "tarfile opens every regular member"
            yield wanted.pop(member.name), file.read()


def _folder_files(path: Path, layout: Layout) -> Iterator[tuple[str, bytes]]:
    """Yields the batches of an unpacked folder as (batch, contents)."""
    for batch, name in layout.file_names().items():
        if not (path / name).is_file():  # reading a FIFO would block forever
            raise ValueError(f"it has no regular file {name}")
        with (path / name).open("rb") as file:
            contents = file.read(batch_files.MAX_BYTES + 1)
        if len(contents) > batch_files.MAX_BYTES:
            raise ValueError(f"{name} is over {batch_files.MAX_BYTES:,} bytes long")
        yield batch, contents


def _decode(layout: Layout, batch: str, contents: bytes, into: Split) -> None:
    """Decodes and validates one batch file and writes it into a split."""
    try:
        pixels, labels = layout.decode(contents)
        _check(pixels, labels)
    except Exception as error:
        raise ValueError(f"{batch}{layout.suffix}: {error}") from error
    # Each image is stored as three planes (red, green, blue) in row-major order.
    into.images[...] = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    into.labels[...] = labels


def _check(pixels: np.ndarray, labels: np.ndarray) -> None:
    expected = (RECORDS_PER_BATCH, batch_files.PIXELS)
    if pixels.dtype != np.uint8 or pixels.shape != expected:
        raise ValueError(
            f"the pixels are {pixels.dtype} {pixels.shape}, not uint8 {expected}"
        )
    if labels.shape != (RECORDS_PER_BATCH,):
        raise ValueError(f"there are {labels.size} labels, not {RECORDS_PER_BATCH}")
    if labels.min() < 0 or labels.max() >= len(CLASS_NAMES):
        raise ValueError(f"labels range from {labels.min()} to {labels.max()}, not 0-9")


LAYOUTS = (
    Layout(
        archive="cifar-10-binary.tar.gz",
        folder="cifar-10-batches-bin",
        suffix=".bin",
        decode=batch_files.decode_binary,
    ),
    Layout(
        archive="cifar-10-python.tar.gz",
        folder="cifar-10-batches-py",
        suffix="",
        decode=batch_files.decode_python,
    ),
    Layout(
        archive="cifar-10-matlab.tar.gz",
        folder="cifar-10-batches-mat",
        suffix=".mat",
        decode=batch_files.decode_matlab,
    ),
)
BINARY = LAYOUTS[0]
