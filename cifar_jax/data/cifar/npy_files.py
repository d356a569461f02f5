"""Reads arrays from .npy files, in parts; nothing is ever unpickled."""

import dataclasses
import math
from pathlib import Path

import numpy as np


@dataclasses.dataclass(frozen=True)
class NpyArray:
    """An array on disk: a .npy file, or one inside an uncompressed tar archive.

    Attributes:
        path: path of the file or the archive.
        offset: position of the array's first byte in it.
        dtype: data type of the array.
        shape: shape of the array, whose elements are in row-major order.
    """

    path: Path
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Reads the rows from `start` to `stop` - 1, and no others.

        Raises:
            OSError: the file cannot be read.
            ValueError: it was truncated.
        """
        row_bytes = self.dtype.itemsize * math.prod(self.shape[1:])
        with self.path.open("rb") as file:
            file.seek(self.offset + start * row_bytes)
            contents = file.read((stop - start) * row_bytes)
        if len(contents) < (stop - start) * row_bytes:
            raise ValueError("it ends too early")
        return np.frombuffer(contents, self.dtype).reshape(-1, *self.shape[1:])


def locate(path: Path, start: int = 0, size: int | None = None) -> NpyArray:
    """Finds an array by the header of its .npy file.

    Args:
        path: path of the .npy file, or of an archive that contains it.
        start: position of the .npy file in the archive.
        size: bytes of the .npy file in the archive; None if it is the whole file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a complete .npy file as NumPy saves it.
    """
    if not path.is_file():  # opening a FIFO would block forever
        raise ValueError("it is not a regular file")
    with path.open("rb") as file:
        file.seek(start)
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"its .npy format is {version}, not (1, 0)")
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
        offset = file.tell()
    if by_columns:
        raise ValueError("its elements are not in row-major order")
    expected = offset - start + dtype.itemsize * math.prod(shape)
    if size is None:
        size = path.stat().st_size
    if size != expected:
        raise ValueError(f"it has {size:,} bytes, not {expected:,}")
    return NpyArray(path, offset, dtype, shape)
