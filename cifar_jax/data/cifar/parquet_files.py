"""Reads the files in which Hugging Face publishes the CIFAR family.

FOLDER/train-00000-of-00001.parquet and FOLDER/test-00000-of-00001.parquet have the
columns `img`, a PNG of each image, and `label`, or `fine_label` and `coarse_label`.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cifar_jax import extras
from cifar_jax.data.cifar.published import Published
from cifar_jax.data.cifar.records import Records
from cifar_jax.data.failure import reason
from cifar_jax.errors import UserError

_SPLITS = ("train", "test")
_SIZE = (32, 32)


def find(data_dir: Path) -> Path | None:
    """Finds a folder with such files: the directory, or one in it."""
    if not data_dir.is_dir():
        return None
    inner = sorted(path for path in data_dir.iterdir() if path.is_dir())
    for folder in (data_dir, *inner):
        if all(_files(folder, split) for split in _SPLITS):
            return folder
    return None


def read(published: Published, folder: Path) -> tuple[Records, Records]:
    """Returns the training and test images.

    Raises:
        UserError: pyarrow is missing, or the files are damaged or have other data.
    """
    extras.require(f"reading .parquet files in {folder}", "parquet", "pyarrow.parquet")
    from pyarrow import parquet

    try:
        train, test = (
            _read_split(published, parquet, _files(folder, split), count)
            for split, count in zip(_SPLITS, published.counts, strict=True)
        )
    except Exception as error:  # pyarrow and decoders can raise almost anything
        raise UserError(
            f"the .parquet files in {folder} cannot be read as {published.title}: "
            f"{reason(error)}; get fresh copies, or pass a different --data_dir"
        ) from error
    return train, test


def _files(folder: Path, split: str) -> list[Path]:
    try:
        return sorted(path for path in folder.glob(f"{split}*.parquet"))
    except OSError:  # such as another user's folder
        return []


def _read_split(
    published: Published, parquet: Any, files: Sequence[Path], count: int
) -> Records:
    columns = [kind.key.removesuffix("s") for kind in published.labels]
    records, start = Records.empty(count, len(columns)), 0
    for path in files:
        if not path.is_file():  # reading a FIFO would block forever
            raise ValueError(f"{path.name} is not a regular file")
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        if missing := [name for name in columns if name not in names]:
            raise ValueError(f"{path.name} has no column {' and no '.join(missing)}")
        images = "img" if "img" in names else "image"
        for batch in file.iter_batches(1_000, columns=[images, *columns]):
            stop = start + batch.num_rows
            if stop > count:
                raise ValueError(f"{path.name} exceeds {count:,} images")
            for index, image in enumerate(batch.column(images), start):
                records.images[index] = _pixels(image.as_py()["bytes"])
            for kind, name in enumerate(columns):
                records.labels[start:stop, kind] = batch.column(name).to_numpy()
            start = stop
    if start != count:
        name = files[0].name
        raise ValueError(f"there are {start:,} images in {name}, not {count:,}")
    published.check_labels(records.labels)
    return records


def _pixels(encoded: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(encoded), formats=("PNG",)) as image:
        if (image.mode, image.size) != ("RGB", _SIZE):
            raise ValueError(f"an image is {image.mode} {image.size}, not RGB {_SIZE}")
        return np.asarray(image)
