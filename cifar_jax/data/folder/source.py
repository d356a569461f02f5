"""Your own pictures: a folder with a sub-folder for each class."""

import dataclasses
import os
from pathlib import Path

import numpy as np

from cifar_jax.checks import check_integer
from cifar_jax.data.dataset import Dataset
from cifar_jax.data.folder import listing as folder_listing
from cifar_jax.data.folder import picture_cache
from cifar_jax.data.folder.listing import Listing
from cifar_jax.errors import RunError, UserError

_NAMED = 5  # damaged pictures in a message


def load(
    data_dir: str | os.PathLike[str] | None,
    *,
    picture_size: int = 32,
    split_seed: int = 0,
    skip_damaged: bool = False,
    validation_size: int = 0,
) -> Dataset:
    """Returns the pictures in a folder, in the order of their file names.

    They are decoded once, see `picture_cache`, as `read_picture` does it, and mapped
    into memory. The layout and the test pictures are as in `folder_listing.find`.

    Args:
        data_dir: the folder.
        picture_size: height and width that pictures are cropped and resized to.
        split_seed: seed of the draw of test and validation pictures.
        skip_damaged: whether damaged pictures are left out, or an error.
        validation_size: number of training pictures to hold out.

    Raises:
        UserError: an argument cannot be used, the layout is another one, or a picture
            is damaged.
        RunError: the cache cannot be written.
    """
    size = check_integer(picture_size, "--picture_size", at_least=1)
    split_seed = check_integer(split_seed, "--split_seed", at_least=0)
    if not data_dir:
        raise UserError("--dataset=folder needs --data_dir, the folder of the pictures")
    directory = Path(data_dir).expanduser()
    try:
        listing = folder_listing.find(directory, split_seed, validation_size)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        place = getattr(error, "filename", None) or directory
        raise UserError(
            f"--data_dir={directory}: {place} cannot be read ({reason}); check its "
            "name and permissions"
        ) from error
    named = {
        "train": listing.train,
        "test": listing.test,
        "validation": listing.validation,
    }
    try:
        splits, fingerprint, damaged = picture_cache.read(directory, named, size)
    except (OSError, RuntimeError) as error:
        place = getattr(error, "filename", None) or "the cache"
        raise RunError(
            f"the decoded pictures cannot be kept in {place} "
            f"({getattr(error, 'strerror', None) or error}); make room, or set "
            "XDG_CACHE_HOME to another directory"
        ) from error
    count = len(listing.train) + len(listing.test) + len(listing.validation)
    if damaged and not skip_damaged:
        raise UserError(
            f"{_damage(damaged, count)}; repair or delete them, or leave them out by "
            "--skip_damaged"
        )
    left_out = {name for name, _ in damaged}
    for name, pictures in named.items():
        names = tuple(one.name for one in pictures if one.name not in left_out)
        splits[name] = dataclasses.replace(splits[name], names=names)
    for name in ("train", "test"):
        if not len(splits[name]):
            raise UserError(f"all {name} pictures in {directory} are damaged")
    counts = np.bincount(splits["train"].labels, minlength=len(listing.class_names))
    if not counts.all():
        raise UserError(
            f"all training pictures of {listing.class_names[counts.argmin()]!r} in "
            f"{directory} are damaged; repair them, or remove the class"
        )
    return Dataset(
        name="folder",
        train=splits["train"],
        validation=splits["validation"] if len(splits["validation"]) else None,
        test=splits["test"],
        class_names=listing.class_names,
        source=_source(directory, listing, size, split_seed),
        fingerprint=fingerprint,
        notice=f"{_damage(damaged, count)}; left out." if damaged else None,
        held_out=validation_size,
    )


def _damage(damaged: list[tuple[str, str]], count: int) -> str:
    """Says how many pictures are damaged, and what is wrong with the first."""
    reasons = [reason for _, reason in damaged[:_NAMED]]
    if len(damaged) > _NAMED:
        reasons.append("...")
    return f"{len(damaged)} of {count} pictures are damaged: {'; '.join(reasons)}"


def _source(directory: Path, listing: Listing, size: int, split_seed: int) -> str:
    """Describes in one line where the pixels come from."""
    parts = [f"the pictures in {directory}, at {size}x{size}"]
    if listing.drawn:
        parts.append(
            f"1 in {folder_listing.TEST_SHARE} of each class drawn for testing, seed "
            f"{split_seed}"
        )
    if listing.ignored:
        parts.append(f"{listing.ignored} files that are not pictures ignored")
    return "; ".join(parts)
