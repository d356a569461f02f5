"""Arrays from which only the rows needed are read.

These are NumPy arrays, in memory or memory-mapped, or anything else that has a shape
and a dtype and supports slices and increasing indices, such as an HDF5 dataset (h5py).
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Integer, Shaped, UInt8

from cifar_jax.errors import UserError

BYTES_PER_BLOCK = 16 << 20


def empty_images(
    count: int, shape: tuple[int, int, int]
) -> UInt8[np.ndarray, "{count} h w c"]:
    """Allocates images at an address that XLA's CPU device can use without a copy.

    Args:
        count: number of images.
        shape: height, width and channels of an image.
    """
    alignment = 64  # XLA's; NumPy's own is 16
    size = count * math.prod(shape)
    room = np.empty(size + alignment, np.uint8)
    start = -room.ctypes.data % alignment
    return room[start : start + size].reshape(count, *shape)


def rows(
    array: Shaped[Any, "n ..."],
    indices: Integer[np.ndarray, " m"],
    out: Shaped[np.ndarray, "m ..."] | None = None,
) -> Shaped[np.ndarray, "m ..."]:
    """Returns some rows of an array without reading the others.

    Args:
        array: in memory or on disk.
        indices: row indices, in any order; repeats are allowed.
        out: where to put the rows; None for a new array.
    """
    if not isinstance(array, np.ndarray):
        # On disk, each row can be requested only once, and in order.
        increasing, indices = np.unique(indices, return_inverse=True)
        array = np.asarray(array[increasing])
    # In any other mode, NumPy would fill a copy of `out` first.
    return np.take(array, indices, axis=0, out=out, mode="clip")


def blocks(array: Shaped[Any, "n ..."]) -> Iterator[Shaped[np.ndarray, "m ..."]]:
    """Yields the rows of an array in order, a few megabytes at a time."""
    count = max(1, BYTES_PER_BLOCK // max(1, row_bytes(array)))
    for start in range(0, len(array), count):
        yield np.asarray(array[start : start + count])


def bounds(array: Integer[Any, "n ..."]) -> tuple[int, int]:
    """Returns the lowest and highest value; zeros if the array is empty."""
    found = [(int(b.min()), int(b.max())) for b in blocks(array) if b.size]
    lowest, highest = zip(*found, strict=True) if found else ((0,), (0,))
    return min(lowest), max(highest)


def row_bytes(array: Shaped[Any, "n ..."]) -> int:
    """Returns the size of a row in bytes."""
    return int(math.prod(array.shape[1:]) * np.dtype(array.dtype).itemsize)


def part(array: Shaped[Any, "n ..."], start: int, stop: int) -> Shaped[Any, "m ..."]:
    """Returns the rows from start to stop - 1, without reading them."""
    if isinstance(array, np.ndarray):
        return array[start:stop]
    return _Part(array, range(len(array))[start:stop])


def take(
    array: Shaped[Any, "n ..."], indices: Integer[np.ndarray, " m"]
) -> Shaped[Any, "m ..."]:
    """Returns chosen rows of an array; if it is on disk, without reading them."""
    if isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        return array[indices]
    return _Taken(array, indices)


def as_indices(chosen: Any, count: int) -> Integer[np.ndarray, " m"]:
    """Returns the indices of chosen images.

    Args:
        chosen: their indices, or a mask.
        count: the number of images to choose from.

    Raises:
        UserError: these are not indices of images, or none.
    """
    what = "the chosen images"
    try:
        array = np.asarray(chosen)
    except ValueError:  # rows of different lengths
        raise UserError(f"{what} must be given by integers or a mask") from None
    if array.ndim != 1 or (array.size and array.dtype.kind not in "biu"):
        raise UserError(
            f"{what} must be given by integers [m] or a mask [{count}], not "
            f"{array.dtype} {list(array.shape)}"
        )
    if array.dtype == bool:
        if len(array) != count:
            raise UserError(
                f"the mask of {what} has {len(array)} values, but there are {count} "
                "training images"
            )
        array = np.flatnonzero(array)
    if not array.size:
        raise UserError(f"there must be at least one of {what}")
    for index in bounds(array):
        if not 0 <= index < count:
            raise UserError(
                f"{what} include {index}, but there are {count} training images, "
                f"from 0 to {count - 1}"
            )
    return array.astype(np.int64)


class _Part:
    """Consecutive rows of an array on disk."""

    def __init__(self, array: Any, numbers: range):
        self._array = array
        self._numbers = numbers
        self.shape = (len(numbers), *array.shape[1:])
        self.dtype = array.dtype

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, key: Any) -> np.ndarray:
        first, *others = key if isinstance(key, tuple) else (key,)
        if isinstance(first, np.ndarray):
            first = first + self._numbers.start
        elif isinstance(first, slice):
            chosen = self._numbers[first]
            first = slice(chosen.start, chosen.stop, chosen.step)
        else:
            first = self._numbers[first]
        return self._array[(first, *others) if others else first]


class _Taken:
    """Rows of an array on disk, in any order."""

    def __init__(self, array: Any, numbers: Integer[np.ndarray, " m"]):
        self._array = array
        self._numbers = numbers
        self.shape = (len(numbers), *array.shape[1:])
        self.dtype = array.dtype

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, key: Any) -> np.ndarray:
        first, *others = key if isinstance(key, tuple) else (key,)
        numbers = self._numbers[first]
        if not isinstance(numbers, np.ndarray):
            return self._array[(int(numbers), *others) if others else int(numbers)]
        found = rows(self._array, numbers)
        return found[(slice(None), *others)] if others else found
