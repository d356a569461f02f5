"""Finds damage in HDF5 files that HDF5 itself does not notice."""

import itertools
import mmap
from typing import Any

# How a heap of strings begins, in its only version.
_HEAP = b"GCOL\x01\0\0\0"
_HEADER = 16


def is_endless(contents: bytes | mmap.mmap) -> bool:
    """Returns whether a heap has free space of size 0, as where a file is zeroed.

    HDF5 steps from one object in a heap to the next by their sizes, and with a size of
    0 never reaches the end (`H5HG__cache_heap_deserialize`, HDF5 2.0.0). The layout of
    heaps is described in the HDF5 File Format Specification 3.0, III.E.
    """

    def number(place: int, size: int) -> int:
        return int.from_bytes(contents[place : place + size], "little")

    start = contents.find(_HEAP)
    while start >= 0:
        end = min(start + number(start + 8, 8), len(contents))
        place = start + _HEADER
        while place + _HEADER <= end:
            index, size = number(place, 2), number(place + 8, 8)
            if index:  # an object, padded to eight bytes
                size = _HEADER + (size + 7) // 8 * 8
            if not size:
                return True
            place += size
        start = contents.find(_HEAP, start + 1)
    return False


def find_shared(file: Any) -> str | None:
    """Returns an object with several names or an array that overlaps another, if any.

    Keras writes none. They come from a wrong bit in an address, or from someone who
    wants a small file to take much memory.
    """
    from h5py import h5o

    linked: list[str] = []
    found: list[tuple[int, int, str]] = []

    def visit(name: str, item: Any) -> None:
        if h5o.get_info(item.id).rc > 1:
            linked.append(name)
        start = item.id.get_offset() if hasattr(item, "shape") else None
        if start is not None:
            found.append((start, start + item.id.get_storage_size(), name))

    file.visititems(visit)
    for (_, end, _), (start, _, name) in itertools.pairwise(sorted(found)):
        if start < end:
            linked.append(name)
    return linked[0] if linked else None
