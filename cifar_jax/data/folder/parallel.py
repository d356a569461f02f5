"""Calls a function on each of many pictures, in threads."""

import concurrent.futures
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from cifar_jax.data.folder.draw import Picture

# At a time, so that at most this many decoded pictures wait to be written.
_BLOCK = 256

Value = TypeVar("Value")


def in_parallel(
    function: Callable[[Picture], Value], split: Sequence[Picture], what: str
) -> Iterator[tuple[Picture, Value]]:
    """Yields each picture with the function's result, in order, showing progress."""
    # Imported here because most runs find everything in the cache.
    from tqdm import tqdm

    with (
        # Hashing and decoding release Python's lock.
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(
            desc=what, total=len(split), file=sys.stderr, delay=1, mininterval=1
        ) as progress,
    ):
        for start in range(0, len(split), _BLOCK):
            block = split[start : start + _BLOCK]
            for picture, result in zip(block, pool.map(function, block), strict=True):
                yield picture, result
                progress.update()
