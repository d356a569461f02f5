"""Prepares and reads CIFAR-10 with TensorFlow Datasets (TFDS), without TensorFlow.

Our own builder writes the official binary archive, in the archive's order, as
array_record files, the format that TFDS can read without TensorFlow. Data that TFDS's
builder `cifar10` prepared in that format are read as well and put back into the
archive's order, so that all sources have the same fingerprint.
"""

import contextlib
import functools
import importlib.util
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import UInt8
from PIL import Image

from cifar_jax.data import archives
from cifar_jax.data.dataset import Split, empty_images
from cifar_jax.data.failure import reason
from cifar_jax.errors import RunError, UserError

# Not "cifar10", which is the folder of TFDS's own builder.
_NAME = "cifar_jax_cifar10"
_VERSION = "1.0.0"
_RECORDS_PER_READ = 1_000


def available() -> bool:
    """Whether array_record files can be read and written on this platform."""
    return importlib.util.find_spec("array_record") is not None


def prepared_folder(data_dir: Path) -> Path:
    """Returns our builder's folder, which exists only once its files are complete."""
    return data_dir / _NAME / _VERSION


def read_prepared(data_dir: Path) -> tuple[Split, Split]:
    """Reads the training and test images that our builder prepared.

    Raises:
        UserError: a file is missing or damaged.
    """

    def raw_pixels(encoded: bytes) -> UInt8[np.ndarray, "32 32 3"]:
        return np.frombuffer(encoded, np.uint8).reshape(32, 32, 3)

    return _read(prepared_folder(data_dir), raw_pixels)


def find_tfds_cifar10(data_dir: Path) -> tuple[Path | None, str | None]:
    """Looks for data that TFDS's own builder prepared.

    Returns:
        The newest folder that can be read, and a remark on one that cannot because its
        files need TensorFlow; each is None if there is no such folder.
    """
    remark = None
    versions = (data_dir / "cifar10").glob("[0-9]*")
    for folder in sorted(versions, key=_version_numbers, reverse=True):
        info = folder / "dataset_info.json"
        if not archives.is_there(info):
            continue
        try:
            if not info.is_file():  # reading a FIFO would block forever
                raise ValueError(f"{info.name} is not a regular file")
            file_format = json.loads(info.read_bytes()).get("fileFormat", "tfrecord")
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise _damaged(folder, error) from error
        if file_format == "array_record":
            return folder, None
        remark = (
            f"{folder} was skipped: its format, {file_format}, needs TensorFlow; "
            "array_record does not"
        )
    return None, remark


def read_tfds_cifar10(folder: Path) -> tuple[Split, Split]:
    """Reads data that TFDS's own builder prepared, in the official archive's order.

    Raises:
        UserError: a file is missing or damaged.
    """

    def png_pixels(encoded: bytes) -> UInt8[np.ndarray, "32 32 3"]:
        return np.asarray(Image.open(io.BytesIO(encoded)))

    return _read(folder, png_pixels)


def prepare(data_dir: Path, archive: Path) -> None:
    """Prepares the binary archive in data_dir, showing progress on stderr.

    TFDS works in folders named incomplete.* and renames them at the end, so what a
    killed run leaves behind is never mistaken for data.

    Raises:
        UserError: the archive is damaged.
        RunError: the files cannot be written.
    """
    import tensorflow_datasets as tfds

    try:
        with _quiet():
            builder = _builder_class()(data_dir=data_dir, file_format="array_record")
            builder.archive = archive
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
    except UserError:
        raise
    except Exception as error:  # array_record reports a full disk as RuntimeError
        raise RunError(
            f"{archive} is intact but could not be prepared ({reason(error)}); free "
            "up space in that folder, or choose another with --data_dir"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses TFDS's output except for progress bars and warnings."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


@functools.cache
def _builder_class() -> Any:
    # Defined in a function because importing TFDS is slow and not always needed.
    import tensorflow_datasets as tfds

    class Cifar10InArchiveOrder(tfds.core.GeneratorBasedBuilder):
        """Builds CIFAR-10 from the binary archive, in the archive's order."""

        name = _NAME
        archive: Path  # must be set before preparation
        VERSION = tfds.core.Version(_VERSION)

        def _info(self) -> Any:
            # Without encoding="bytes", each pixel becomes an int64: five times slower.
            image = tfds.features.Tensor(
                shape=(32, 32, 3), dtype=np.uint8, encoding="bytes"
            )
            label = tfds.features.ClassLabel(names=archives.CLASS_NAMES)
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict({"image": image, "label": label}),
                homepage=archives.HOME_PAGE,
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            train, test = archives.read(self.archive, archives.BINARY)
            return {
                "train": self._generate_examples(train),
                "test": self._generate_examples(test),
            }

        def _generate_examples(self, split: Split) -> Iterator[tuple[int, Any]]:
            for index, image in enumerate(split.images):
                yield index, {"image": image, "label": int(split.labels[index])}

    return Cifar10InArchiveOrder


def _read(
    folder: Path, decode: Callable[[bytes], UInt8[np.ndarray, "32 32 3"]]
) -> tuple[Split, Split]:
    import tensorflow_datasets as tfds

    try:
        for path in folder.iterdir():
            if not (path.is_file() or path.is_dir()):  # a FIFO would block
                raise ValueError(f"{path.name} is not a regular file")
        with _quiet():
            builder = tfds.builder_from_directory(folder)
        sources = [
            builder.as_data_source(
                split, decoders={"image": tfds.decode.SkipDecoding()}
            )
            for split in ("train", "test")
        ]
        train, test = (_read_split(source, decode) for source in sources)
        for split, batches in ((train, 5), (test, 1)):
            if len(split) != batches * archives.RECORDS_PER_BATCH:
                raise ValueError(f"a split has {len(split)} images")
    except Exception as error:  # array_record and protobuf share no error class
        raise _damaged(folder, error) from error
    return train, test


def _read_split(source: Any, decode: Callable[[bytes], np.ndarray]) -> Split:
    images = empty_images(len(source), archives.IMAGE_SHAPE)
    labels = np.empty(len(source), np.int32)
    # TFDS's own cifar10 is shuffled; a record's id is its place in the archive.
    names = []
    for start in range(0, len(source), _RECORDS_PER_READ):
        stop = min(start + _RECORDS_PER_READ, len(source))
        records = source.__getitems__(range(start, stop))
        for index, record in enumerate(records, start):
            images[index] = decode(record["image"])
            labels[index] = record["label"]
        names += [record["id"] for record in records if "id" in record]
    if names:
        order = np.argsort(names)
        images = np.take(
            images, order, axis=0, out=empty_images(len(order), images.shape[1:])
        )
        labels = labels[order]
    if labels.min() < 0 or labels.max() >= len(archives.CLASS_NAMES):
        raise ValueError(f"labels range from {labels.min()} to {labels.max()}")
    return Split(images, labels)


def _version_numbers(folder: Path) -> list[int]:
    return [int(number) for number in folder.name.split(".") if number.isdecimal()]


def _damaged(folder: Path, error: Exception) -> UserError:
    return UserError(
        f"the prepared data in {folder} cannot be read: {reason(error)}; delete that "
        "folder, and the next run will prepare the data again"
    )
