"""CIFAR-10 through TensorFlow Datasets (TFDS), which needs no TensorFlow for this.

Our own builder downloads the official binary archive and writes it as array_record
files, the format that TFDS can read by itself, in the archive's order. What TFDS's
builder `cifar10` prepared in that format is read as well, and put back into the
archive's order, so that all sources have one fingerprint.
"""

import contextlib
import errno
import functools
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import UInt8
from PIL import Image

from cifar_jax.data import archives
from cifar_jax.data.dataset import Split, empty_images
from cifar_jax.errors import RunError, UserError

# Size and SHA-256 of this file are in checksums.tsv beside this module, where TFDS
# looks for them.
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"

# Not "cifar10", the folder of TFDS's own builder.
_NAME = "cifar_jax_cifar10"
_VERSION = "1.0.0"
_RECORDS_PER_READ = 1_000


def prepared_folder(data_dir: Path) -> Path:
    """Where our builder puts its files; it exists only once they are complete."""
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
    """Looks for what TFDS's own builder prepared.

    Returns:
        The newest folder that can be read, and a remark on one that cannot because
        its files need TensorFlow; each None when there is no such folder.
    """
    remark = None
    versions = (data_dir / "cifar10").glob("[0-9]*/dataset_info.json")
    for info in sorted(versions, key=_version_numbers, reverse=True):
        try:
            file_format = json.loads(info.read_bytes()).get("fileFormat", "tfrecord")
        except (OSError, ValueError, AttributeError) as error:
            raise _damaged(info.parent, error) from error
        if file_format == "array_record":
            return info.parent, None
        remark = (
            f"{info.parent} was passed over: its format, {file_format}, needs "
            "TensorFlow; array_record does not"
        )
    return None, remark


def read_tfds_cifar10(folder: Path) -> tuple[Split, Split]:
    """Reads what TFDS's own builder prepared, in the order of the official archive.

    Raises:
        UserError: a file is missing or damaged.
    """

    def png_pixels(encoded: bytes) -> UInt8[np.ndarray, "32 32 3"]:
        return np.asarray(Image.open(io.BytesIO(encoded)))

    return _read(folder, png_pixels)


def download_and_prepare(data_dir: Path) -> None:
    """Downloads the official binary archive and prepares it, with progress on stderr.

    TFDS works in folders called incomplete.* and renames them at the end, so what a
    killed run leaves behind is never taken for data.

    Raises:
        UserError: data_dir cannot be written.
        RunError: the download or the disk failed.
    """
    import tensorflow_datasets as tfds
    from requests import RequestException

    by_hand = f"try again, or put {archives.BINARY.archive} into {data_dir} by hand"
    print(
        f"Downloading CIFAR-10 (170 MB) and preparing it in {data_dir}", file=sys.stderr
    )
    try:
        with _quiet():
            builder = _builder_class()(data_dir=data_dir, file_format="array_record")
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(
                    try_download_gcs=False, force_checksums_validation=True
                )
            )
    except tfds.download.download_manager.NonMatchingChecksumError as error:
        raise RunError(
            f"what came from {URL} is not the official archive (other size or "
            f"SHA-256); {by_hand}"
        ) from error
    except (RequestException, tfds.download.DownloadError) as error:
        raise RunError(
            f"the download of {URL} broke off ({error}); {by_hand}"
        ) from error
    except OSError as error:
        if prepared_folder(data_dir).exists():
            return  # another run, started at the same time, was faster
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"the disk of {data_dir} is full (CIFAR-10 takes 350 MB there); make "
                "room, or choose another folder with --data_dir"
            ) from error
        raise UserError(
            f"cannot write to {data_dir} ({error.strerror or error}); choose another "
            "folder with --data_dir"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leaves of what TFDS prints and logs its progress bars and warnings."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


@functools.cache
def _builder_class() -> Any:
    # A class in a function, because importing TFDS is slow and not always needed.
    import tensorflow_datasets as tfds

    class Cifar10InArchiveOrder(tfds.core.GeneratorBasedBuilder):
        """CIFAR-10 from the binary archive, in its order."""

        name = _NAME
        VERSION = tfds.core.Version(_VERSION)

        def _info(self) -> Any:
            # Without encoding="bytes" each pixel becomes an int64, five times slower.
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
            path = Path(dl_manager.download(URL))
            contents = archives.read(path, archives.BINARY)
            return {
                "train": self._generate_examples(contents.train),
                "test": self._generate_examples(contents.test),
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
    except Exception as error:  # array_record and protobuf have no common error
        raise _damaged(folder, error) from error
    return train, test


def _read_split(source: Any, decode: Callable[[bytes], np.ndarray]) -> Split:
    images = empty_images(len(source))
    labels = np.empty(len(source), np.int32)
    # TFDS's own cifar10 is shuffled, with the place in the archive as its id.
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
        images = np.take(images, order, axis=0, out=empty_images(len(order)))
        labels = labels[order]
    if labels.min() < 0 or labels.max() >= len(archives.CLASS_NAMES):
        raise ValueError(f"labels range from {labels.min()} to {labels.max()}")
    return Split(images, labels)


def _version_numbers(info: Path) -> list[int]:
    return [int(number) for number in info.parent.name.split(".") if number.isdigit()]


def _damaged(folder: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(
        f"the prepared data in {folder} cannot be read: {reason}; delete that folder, "
        "and the next run prepares it again"
    )
