"""Prepares and reads the CIFAR family with TensorFlow Datasets, without TensorFlow.

Our own builder writes an official archive, in the archive's order, as
array_record files, the format that TensorFlow Datasets (TFDS) can read without
TensorFlow. Data that TFDS's builders `cifar10` and `cifar100` prepared in that format
are read as well and put back into the archive's order, so that all sources have the
same fingerprint.
"""

import contextlib
import functools
import importlib.util
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import UInt8
from PIL import Image

from cifar_jax.data.cifar import archives, download
from cifar_jax.data.cifar.published import HOME_PAGE, Published
from cifar_jax.data.cifar.records import Records
from cifar_jax.data.failure import reason
from cifar_jax.errors import RunError, UserError

_VERSION = "1.0.0"
_RECORDS_PER_READ = 1_000


def is_available() -> bool:
    """Returns whether this platform can read and write array_record files."""
    return importlib.util.find_spec("array_record") is not None


def prepared_folder(published: Published, data_dir: Path) -> Path:
    """Returns our builder's folder, which exists only once its files are complete."""
    return data_dir / _name(published) / _VERSION


def delete_leftovers(published: Published, data_dir: Path) -> None:
    """Deletes what killed preparations left behind."""
    name = f"{_name(published)}/incomplete.*"
    if any(data_dir.glob(name)):
        with download.lock_if_free(data_dir) as is_free:
            for folder in data_dir.glob(name) if is_free else ():
                shutil.rmtree(folder, ignore_errors=True)


def find_data_dir(published: Published, folder: Path) -> Path:
    """Returns the directory in which a folder was prepared, or else the folder itself.

    People may name the folder of the data set, or that of its version.
    """
    for own in (folder, folder.parent):
        versions = own.glob("[0-9]*/dataset_info.json")
        if own.name in (published.name, _name(published)) and any(versions):
            return own.parent
    return folder


def read_prepared(published: Published, data_dir: Path) -> tuple[Records, Records]:
    """Reads the training and test images that our builder prepared.

    Raises:
        UserError: a file is missing or damaged.
    """

    def raw_pixels(encoded: bytes) -> UInt8[np.ndarray, "32 32 3"]:
        return np.frombuffer(encoded, np.uint8).reshape(32, 32, 3)

    return _read(published, prepared_folder(published, data_dir), raw_pixels)


def find_tfds(published: Published, data_dir: Path) -> tuple[Path | None, str | None]:
    """Looks for data that TFDS's own builder prepared.

    Returns:
        The newest folder that can be read, and a remark on one that cannot because its
        files need TensorFlow; each is None if there is no such folder.
    """
    remark = None
    versions = (data_dir / published.name).glob("[0-9]*")
    for folder in sorted(versions, key=_version_numbers, reverse=True):
        info = folder / "dataset_info.json"
        if not archives.is_there(info):
            continue
        try:
            if not info.is_file():  # reading a FIFO would block forever
                raise ValueError(f"{info.name} is not a regular file")
            file_format = json.loads(info.read_bytes()).get("fileFormat", "tfrecord")
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise _explain_damage(folder, error) from error
        if file_format == "array_record":
            return folder, None
        remark = (
            f"{folder} was skipped: its format, {file_format}, needs TensorFlow; "
            "array_record does not"
        )
    return None, remark


def read_tfds(published: Published, folder: Path) -> tuple[Records, Records]:
    """Reads data that TFDS's own builder prepared, in the official archive's order.

    Raises:
        UserError: a file is missing or damaged.
    """

    def png_pixels(encoded: bytes) -> UInt8[np.ndarray, "32 32 3"]:
        return np.asarray(Image.open(io.BytesIO(encoded)))

    return _read(published, folder, png_pixels)


def prepare(published: Published, data_dir: Path, archive: Path) -> None:
    """Prepares an official archive in data_dir, showing progress on stderr.

    TFDS works in folders named incomplete.* and renames them at the end, so what a
    killed run leaves behind is never mistaken for data.

    Raises:
        UserError: the archive is damaged.
        RunError: the files cannot be written.
    """
    import tensorflow_datasets as tfds

    try:
        with _quiet():
            builder_class = make_builder_class(published)
            builder = builder_class(data_dir=data_dir, file_format="array_record")
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


def _name(published: Published) -> str:
    # Not that of TFDS's own builder, because it also names the folder.
    return f"cifar_jax_{published.name}"


@functools.cache
def make_builder_class(published: Published) -> Any:
    """Returns a TFDS builder class for a published data set."""
    # Defined in a function because importing TFDS is slow and not always needed.
    import tensorflow_datasets as tfds

    # Not registered, because TFDS need not find it by name.
    class InArchiveOrder(  # type: ignore[call-arg]
        tfds.core.GeneratorBasedBuilder, skip_registration=True
    ):
        """Builds a data set from an archive, in the archive's order."""

        name = _name(published)
        archive: Path  # must be set before preparation
        VERSION = tfds.core.Version(_VERSION)

        def _info(self) -> Any:
            # Without encoding="bytes", each pixel becomes an int64: five times slower.
            image = tfds.features.Tensor(
                shape=(32, 32, 3), dtype=np.uint8, encoding="bytes"
            )
            labels = {
                kind.feature: tfds.features.ClassLabel(names=kind.class_names)
                for kind in published.labels
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict({"image": image, **labels}),
                homepage=HOME_PAGE,
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            [layout] = (
                layout
                for layout in published.layouts
                if layout.archive == self.archive.name
            )
            train, test = archives.read(published, self.archive, layout)
            return {
                "train": self._generate_examples(train),
                "test": self._generate_examples(test),
            }

        def _generate_examples(self, records: Records) -> Iterator[tuple[int, Any]]:
            features = [kind.feature for kind in published.labels]
            for index, image in enumerate(records.images):
                labels = zip(features, records.labels[index].tolist(), strict=True)
                yield index, {"image": image, **dict(labels)}

    return InArchiveOrder


def _read(
    published: Published,
    folder: Path,
    decode: Callable[[bytes], UInt8[np.ndarray, "32 32 3"]],
) -> tuple[Records, Records]:
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
        train, test = (_read_split(published, source, decode) for source in sources)
        for records, count in zip((train, test), published.counts, strict=True):
            if len(records) != count:
                raise ValueError(f"a split has {len(records)} images")
    except Exception as error:  # array_record and protobuf share no error class
        raise _explain_damage(folder, error) from error
    return train, test


def _read_split(
    published: Published, source: Any, decode: Callable[[bytes], np.ndarray]
) -> Records:
    features = [kind.feature for kind in published.labels]
    split = Records.empty(len(source), len(features))
    # TFDS's own data are shuffled; a record's id is its place in the archive.
    names = []
    for start in range(0, len(source), _RECORDS_PER_READ):
        stop = min(start + _RECORDS_PER_READ, len(source))
        records = source.__getitems__(range(start, stop))
        for index, record in enumerate(records, start):
            split.images[index] = decode(record["image"])
            split.labels[index] = [record[feature] for feature in features]
        names += [record["id"] for record in records if "id" in record]
    published.check_labels(split.labels)
    if not names:
        return split
    order = np.argsort(names)
    in_order = Records.empty(len(order), len(features))
    np.take(split.images, order, axis=0, out=in_order.images)
    np.take(split.labels, order, axis=0, out=in_order.labels)
    return in_order


def _version_numbers(folder: Path) -> list[int]:
    return [int(number) for number in folder.name.split(".") if number.isdecimal()]


def _explain_damage(folder: Path, error: Exception) -> UserError:
    return UserError(
        f"the prepared data in {folder} cannot be read: {reason(error)}; delete that "
        "folder, and the next run will prepare the data again"
    )
