"""Decodes pictures once, and keeps their pixels in the user's cache directory.

CACHE/pictures/KEY/NAME.images     the pixels of a split, one image after another
CACHE/pictures/KEY/NAME.labels     its labels, as int32
CACHE/pictures/KEY/contents.json   everything else in `Decoded`
CACHE/pictures/FOLDER.json         the sizes and times of a folder's files

KEY is a hash of the contents of all files, so a changed picture leads to a new cache.
To find it within seconds, files are read only if their sizes or times have changed. The
pixels are not compressed: they are memory-mapped, so that a set may be larger than the
memory, and any image can be read immediately.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
from jaxtyping import UInt8

from cifar_jax.caches import user_cache
from cifar_jax.data.folder import deep, pictures, unfinished
from cifar_jax.data.folder.draw import Picture
from cifar_jax.data.folder.parallel import in_parallel
from cifar_jax.data.folder.picture_files import HAS_HEIF
from cifar_jax.data.split import Split, fingerprint
from cifar_jax.errors import UserError

_CONTENTS = "contents.json"
_FORMAT = 2  # of the cache and of how pictures are decoded
# The pixels of larger sets are not hashed on every use.
MAX_VERIFIED_BYTES = 1 << 30

Pictures = Mapping[str, Sequence[Picture]]


class Decoded(NamedTuple):
    """The pixels of pictures, and details about them.

    Attributes:
        splits: the images and labels by split name.
        fingerprint: fingerprint of the splits that are not empty, in order.
        damaged: the name of each picture that is left out, with the reason.
        value_range: the values of deep pictures that became 0 and 255; None if there
            are no deep training pictures.
        levels: the darkest and the lightest value, from 0 to 255, of the training
            pictures, without the most extreme tenth of them.
    """

    splits: dict[str, Split]
    fingerprint: str
    damaged: list[tuple[str, str]]
    value_range: deep.Range | None
    levels: tuple[int, int]


class CacheDamagedError(Exception):
    """The cached pixels are not those that were written."""


def read(
    directory: Path,
    found: Pictures,
    size: int,
    value_range: deep.Range | None = None,
) -> Decoded:
    """Returns the pixels of pictures, decoded now or earlier.

    Args:
        directory: the folder that they are in.
        found: the pictures by split name; one split is "train".
        size: height and width of the images to return.
        value_range: the values of deep pictures that become 0 and 255; None for the
            smallest and the largest in the training pictures.

    Raises:
        UserError: the cached pixels are damaged.
        OSError: the cache cannot be read or written.
    """
    cache = user_cache() / "pictures"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished.delete_leftovers(cache)
    key = _key(cache, directory, found, size, value_range)
    folder = cache / key
    # If several runs start at the same time, one of them decodes.
    with filelock.FileLock(cache / f"{key}.lock"):
        if not folder.exists():
            _write(folder, found, size, value_range)
    try:
        return _verify(folder, size)
    except (CacheDamagedError, OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"the decoded pictures in {folder} cannot be used ({error}); delete that "
            "folder, and the next run will decode the pictures again"
        ) from error


def _key(
    cache: Path,
    directory: Path,
    found: Pictures,
    size: int,
    value_range: deep.Range | None,
) -> str:
    """Returns the cache key of the pictures' pixels."""
    everything = [p for split in found.values() for p in split]
    # The order of the pictures in their splits follows from their names.
    names = [
        [name, [[p.name, p.label] for p in split]] for name, split in found.items()
    ]
    settings = [_FORMAT, HAS_HEIF, size, value_range, names]
    plan = hashlib.sha256(json.dumps(settings).encode())
    plan.update(_contents(cache, directory, everything).encode())
    return plan.hexdigest()[:32]


def _contents(cache: Path, directory: Path, everything: Sequence[Picture]) -> str:
    """Returns a hash of the contents of all pictures, reading them if necessary."""
    ordered = sorted(everything, key=lambda picture: picture.name)
    status = hashlib.sha256()
    for picture in ordered:
        status.update(f"{picture.name!r} {_status(picture.path)}\n".encode())
    place = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:32]
    known = cache / f"{place}.json"
    # If several runs start at the same time, one of them reads.
    with filelock.FileLock(cache / f"{place}.lock"):
        try:
            record = json.loads(_regular(known).read_bytes())
            if record["status"] == status.hexdigest():
                return str(record["contents"])
        except (CacheDamagedError, OSError, ValueError, KeyError, TypeError):
            pass  # a new folder, or one that has changed
        digests = dict(in_parallel(_digest, ordered, "Reading pictures"))
        contents = hashlib.sha256()
        for picture, digest in digests.items():
            contents.update(f"{picture.name!r} {digest}\n".encode())
        # An unreadable file may be readable later, with the same size and times.
        if None not in digests.values():
            record = {"status": status.hexdigest(), "contents": contents.hexdigest()}
            with unfinished.create(known) as partial:
                partial.write_text(json.dumps(record))
                partial.replace(known)
    return contents.hexdigest()


def _status(path: Path) -> tuple[int, ...] | None:
    """Returns a file's size and times, which show changes; None without such a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _digest(picture: Picture) -> str | None:
    """Returns the hash of a file; None if it cannot be read."""
    try:
        if not picture.path.is_file():  # reading a FIFO would block forever
            return None
        with picture.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _write(
    folder: Path, found: Pictures, size: int, value_range: deep.Range | None
) -> None:
    """Decodes pictures into a folder that gets its final name once it is complete."""
    with unfinished.create(folder) as partial:
        partial.mkdir()
        _fill(partial, found, size, value_range)
        partial.rename(folder)


def _fill(
    folder: Path, found: Pictures, size: int, value_range: deep.Range | None
) -> None:
    """Decodes pictures into an empty folder."""
    value_range = value_range or _value_range(found["train"])
    damaged: list[tuple[str, str]] = []
    counts, levels = {}, []
    for name, split in found.items():
        labels = []
        with (folder / f"{name}.images").open("wb") as file:
            for picture, image in _decode(split, size, value_range):
                if isinstance(image, UserError):
                    # The same pictures may be in another folder next time.
                    reason = str(image).replace(str(picture.path), picture.name)
                    damaged.append((picture.name, reason))
                    continue
                labels.append(picture.label)
                file.write(image.data)
                if name == "train":
                    levels.append((int(image.min()), int(image.max())))
        np.array(labels, "<i4").tofile(folder / f"{name}.labels")
        counts[name] = len(labels)
    contents: dict[str, Any] = {
        "counts": counts,
        "damaged": damaged,
        "value_range": value_range,
        "levels": _ordinary(levels),
    }
    splits = _splits(folder, counts, size)
    contents["fingerprint"] = fingerprint(*filter(len, splits.values()))
    (folder / _CONTENTS).write_text(json.dumps(contents), encoding="utf-8")


def _value_range(split: Sequence[Picture]) -> deep.Range | None:
    """Returns the range of the deep pictures that can be read; None without any."""

    def bounds(picture: Picture) -> deep.Range | None:
        try:
            return pictures.deep_bounds(picture.path)
        except UserError:  # which decoding will report
            return None

    with pictures.quiet_decoders():
        ranges = [found for _, found in in_parallel(bounds, split, "Finding the range")]
    return deep.join_ranges([found for found in ranges if found is not None])


def _ordinary(levels: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Returns the lowest and highest value, without the most extreme tenth of each."""
    if not levels:
        return 0, 255
    low, high = np.array(levels).T
    return (
        int(np.quantile(low, 0.1, method="nearest")),
        int(np.quantile(high, 0.9, method="nearest")),
    )


def _decode(
    split: Sequence[Picture], size: int, value_range: deep.Range | None
) -> Iterator[tuple[Picture, UInt8[np.ndarray, "size size 3"] | UserError]]:
    """Yields each picture with its pixels, or with the error if it is damaged."""

    def decode(picture: Picture) -> np.ndarray | UserError:
        try:
            image = pictures.decode(
                picture.path, (size, size, 3), value_range=value_range
            )
        except UserError as error:
            return error
        return np.ascontiguousarray(image)

    with pictures.quiet_decoders():
        yield from in_parallel(decode, split, "Decoding pictures")


def _verify(folder: Path, size: int) -> Decoded:
    """Returns the contents of a cache folder."""
    contents: dict[str, Any] = json.loads(_regular(folder / _CONTENTS).read_bytes())
    splits = _splits(folder, contents["counts"], size)
    if sum(split.images.nbytes for split in splits.values()) <= MAX_VERIFIED_BYTES:
        now = fingerprint(*filter(len, splits.values()))
        if now != contents["fingerprint"]:
            raise CacheDamagedError("they are not those that were written")
    damaged = [(str(name), str(reason)) for name, reason in contents["damaged"]]
    value_range, (darkest, lightest) = contents["value_range"], contents["levels"]
    return Decoded(
        splits,
        contents["fingerprint"],
        damaged,
        None if value_range is None else (float(value_range[0]), float(value_range[1])),
        (int(darkest), int(lightest)),
    )


def _splits(folder: Path, counts: Mapping[str, int], size: int) -> dict[str, Split]:
    """Maps the images of each split into memory."""
    splits = {}
    for name, count in counts.items():
        shape, path = (count, size, size, 3), _regular(folder / f"{name}.images")
        if path.stat().st_size != np.prod(shape, dtype=np.int64):
            raise CacheDamagedError(f"{path.name} has the wrong size")
        # An empty file cannot be mapped.
        images = np.memmap(path, np.uint8, "r", shape=shape) if count else None
        labels = np.fromfile(_regular(folder / f"{name}.labels"), "<i4").astype(
            np.int32
        )
        if len(labels) != count:
            raise CacheDamagedError(f"{name}.labels has the wrong size")
        splits[name] = Split(
            np.empty(shape, np.uint8) if images is None else images, labels
        )
    return splits


def _regular(path: Path) -> Path:
    """Returns the path, unless reading the file could block or never end."""
    if path.exists() and not path.is_file():
        raise CacheDamagedError(f"{path.name} is not a regular file")
    return path
