"""Draws test and validation pictures by the hashes of their names."""

import dataclasses
import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cifar_jax.errors import UserError

# Without a test folder, one in this many pictures of each class is for testing.
TEST_SHARE = 5


@dataclasses.dataclass(frozen=True)
class Picture:
    """A file that should be a picture.

    Attributes:
        path: path of the file.
        name: its path in the data set's folder, with slashes.
        label: label of its class.
    """

    path: Path
    name: str
    label: int


def split_off_test(
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
    return _divide(pictures, test)


def split_off_validation(
    pictures: Sequence[Picture], size: int, seed: int
) -> tuple[list[Picture], list[Picture]]:
    """Splits training pictures into those that stay and those that are held out.

    This is systematic sampling: pictures are taken at regular intervals, sorted by
    class and, within a class, by the draw, so that each class loses its share. At least
    one picture of each class stays.
    """
    ordered = sorted(
        pictures, key=lambda picture: (picture.label, _rank(picture, seed))
    )
    free = [b for a, b in itertools.pairwise(ordered) if a.label == b.label]
    if size > len(free):
        raise UserError(
            f"--validation_size={size} is too large: of {len(pictures)} training "
            f"pictures, {len(free)} can be held out, as one of each class must stay"
        )
    held_out = {free[(2 * i + 1) * len(free) // (2 * size)] for i in range(size)}
    return _divide(pictures, held_out)


def _divide(
    pictures: Sequence[Picture], chosen: set[Picture]
) -> tuple[list[Picture], list[Picture]]:
    return (
        [picture for picture in pictures if picture not in chosen],
        [picture for picture in pictures if picture in chosen],
    )


def _rank(picture: Picture, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/".encode() + os.fsencode(picture.name)).digest()
