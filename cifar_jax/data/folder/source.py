"""Your own pictures: a folder with a sub-folder for each class."""

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cifar_jax.checks import check_integer
from cifar_jax.data import archive_names
from cifar_jax.data.dataset import Dataset
from cifar_jax.data.folder import deep, draw, picture_cache, picture_files
from cifar_jax.data.folder import listing as folder_listing
from cifar_jax.data.folder.draw import Picture
from cifar_jax.data.folder.listing import Listing
from cifar_jax.data.folder.picture_cache import Decoded
from cifar_jax.errors import RunError, UserError

_NAMED = 5  # damaged pictures in a message
# Training pictures with fewer levels from dark to light are worth a notice.
_FEW_LEVELS = 16


def load(
    data_dir: str | os.PathLike[str] | None,
    *,
    picture_size: int = 32,
    split_seed: int = 0,
    skip_damaged: bool = False,
    validation_size: int = 0,
    value_range: deep.Range | None = None,
) -> Dataset:
    """Loads the pictures in a folder, in the order of their file names.

    They are decoded as by `read_picture`, only once (see `picture_cache`), and
    memory-mapped. `folder_listing.find` describes the layout and the test pictures.

    Args:
        data_dir: the folder.
        picture_size: height and width that pictures are cropped and resized to.
        split_seed: seed for drawing test and validation pictures.
        skip_damaged: whether to leave out pictures that cannot be read, instead of
            raising an error.
        validation_size: number of training pictures to hold out.
        value_range: the values of deep pictures that become 0 and 255; None for the
            smallest and the largest in the training pictures.

    Raises:
        UserError: an argument is invalid, the layout is a different one, or a picture
            cannot be read.
        RunError: the cache cannot be written.
    """
    size = check_integer(picture_size, "--picture_size", at_least=1)
    split_seed = check_integer(split_seed, "--split_seed", at_least=0)
    if not data_dir:
        raise UserError("--dataset=folder needs --data_dir, the folder of the pictures")
    directory = Path(data_dir).expanduser()
    listing = _list_pictures(directory, split_seed, validation_size)
    named = {
        "train": listing.train,
        "test": listing.test,
        "validation": listing.validation,
    }
    everything = [picture for split in named.values() for picture in split]
    unreadable = _unreadable_kinds(everything)
    if unreadable and not skip_damaged:
        raise UserError(f"{unreadable}; or leave them out with --skip_damaged")
    try:
        decoded = picture_cache.read(listing.root, named, size, value_range)
    except (OSError, RuntimeError) as error:
        place = getattr(error, "filename", None) or "the cache"
        raise RunError(
            f"the decoded pictures cannot be kept in {place} "
            f"({getattr(error, 'strerror', None) or error}); make room, or set "
            "XDG_CACHE_HOME to another directory"
        ) from error
    damage = _damage(decoded.damaged, len(everything))
    if damage and not skip_damaged:
        raise UserError(
            f"{damage}; repair or delete them, or leave them out with --skip_damaged"
        )
    _check_counts(listing, decoded)
    left_out, splits = {name for name, _ in decoded.damaged}, decoded.splits
    for name, pictures in named.items():
        names = tuple(one.name for one in pictures if one.name not in left_out)
        splits[name] = dataclasses.replace(splits[name], names=names)
    notices = [*listing.remarks, *_few_levels(decoded)]
    notices += [f"{what}; left out." for what in (unreadable, damage) if what]
    return Dataset(
        name="folder",
        train=splits["train"],
        validation=splits["validation"] if len(splits["validation"]) else None,
        test=splits["test"],
        class_names=listing.class_names,
        source=_source(listing, size, split_seed, decoded.value_range),
        fingerprint=decoded.fingerprint,
        notice="\n".join(notices) or None,
        held_out=validation_size,
        value_range=decoded.value_range,
    )


def _list_pictures(directory: Path, split_seed: int, validation_size: int) -> Listing:
    try:
        if directory.is_file():
            packed = archive_names.is_packed(directory.name)
            raise UserError(
                f"--data_dir={directory} is "
                + ("an archive; unpack it, and " if packed else "a file; ")
                + "pass the folder of the pictures"
            )
        return folder_listing.find(directory, split_seed, validation_size)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        place = getattr(error, "filename", None) or directory
        raise UserError(
            f"--data_dir={directory}: {place} cannot be read ({reason}); check its "
            "name and permissions"
        ) from error


def _unreadable_kinds(pictures: Sequence[Picture]) -> str | None:
    """Describes how many pictures are of kinds that cannot be read here."""
    names = [picture.path.name for picture in pictures]
    kinds = Counter(
        (picture_files.ending(name), obstacle)
        for name in names
        if (obstacle := picture_files.find_obstacle(name))
    )
    counts = [
        f"{count} of {len(names)} pictures end in {end}, a kind that {obstacle}"
        for (end, obstacle), count in kinds.items()
    ]
    return "; ".join(counts) or None


def _check_counts(listing: Listing, decoded: Decoded) -> None:
    """Raises UserError unless pictures are left to train on and to test."""
    for name in ("train", "test"):
        if not len(decoded.splits[name]):
            raise UserError(f"all {name} pictures in {listing.root} are damaged")
    labels = decoded.splits["train"].labels
    counts = np.bincount(labels, minlength=len(listing.class_names))
    if not counts.all():
        raise UserError(
            f"all training pictures of {listing.class_names[counts.argmin()]!r} in "
            f"{listing.root} are damaged; repair them, or remove the class"
        )


def _few_levels(decoded: Decoded) -> list[str]:
    """Returns a notice if nearly all training pictures are almost uniformly gray."""
    low, high = decoded.levels
    if high - low + 1 >= _FEW_LEVELS:
        return []
    return [
        f"Nearly all values of the training pictures are from {low} to {high}, on a "
        "scale from 0 to 255:\nnetworks hardly see differences. Scale the pictures to "
        "the full range. In gray ones with\n16 bits or floats, look for extreme "
        "values; of 16-bit colors, only 8 bits are read."
    ]


def _damage(damaged: list[tuple[str, str]], count: int) -> str | None:
    """Describes how many pictures are damaged, and what is wrong with the first."""
    damaged = [found for found in damaged if not picture_files.find_obstacle(found[0])]
    if not damaged:
        return None
    reasons = [reason for _, reason in damaged[:_NAMED]]
    if len(damaged) > _NAMED:
        reasons.append("...")
    return f"{len(damaged)} of {count} pictures are damaged: {'; '.join(reasons)}"


def _source(
    listing: Listing, size: int, split_seed: int, value_range: deep.Range | None
) -> str:
    """Describes in one line where the pixels come from."""
    parts = [f"the pictures in {listing.root}, at {size}x{size}"]
    if listing.drawn:
        parts.append(
            f"1 in {draw.TEST_SHARE} of each class drawn for testing, seed {split_seed}"
        )
    if value_range is not None:
        low, high = value_range
        parts.append(f"deep pictures scaled from {low:g}..{high:g} to 0..255")
    if listing.ignored:
        kinds = sorted(listing.ignored.items())
        counts = ", ".join(f"{count} {end}" for end, count in kinds)
        parts.append(f"ignored files that are not pictures: {counts}")
    return "; ".join(parts)
