"""Finds a data set of the CIFAR family on disk, or downloads it."""

import contextlib
import dataclasses
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from cifar_jax import console
from cifar_jax.data.cifar import archives, download, parquet_files, tfds_builder
from cifar_jax.data.cifar.download import Download
from cifar_jax.data.cifar.published import (
    HOME_PAGE,
    Fingerprints,
    Labels,
    Published,
    RecordsMD5,
)
from cifar_jax.data.cifar.records import Records
from cifar_jax.data.dataset import Dataset
from cifar_jax.data.split import unordered_fingerprint
from cifar_jax.errors import RunError, UserError

_VARIABLE = "TFDS_DATA_DIR"


def load(
    published: Published, data_dir: str | os.PathLike[str] | None, labels: Labels
) -> Dataset:
    """Loads a data set.

    In data_dir, this looks for data prepared by our TFDS builder, data prepared by
    TFDS's own builder, an official archive (binary, python, matlab), an unpacked one,
    and the files of Hugging Face, in this order. If no directory is named, it also
    looks where torchvision and Keras usually put the data set. Otherwise the data set
    is downloaded and prepared, once. Whatever the source, the pixels and labels decide
    whether it is the official data set.

    Args:
        published: the data set.
        data_dir: None for TFDS's default, $TFDS_DATA_DIR or ~/tensorflow_datasets.
        labels: one of the data set's kinds of labels.

    Raises:
        UserError: data_dir cannot be used, the data on disk are damaged, or the data
            set is neither on disk nor reachable.
        RunError: downloading or preparing the data failed midway.
    """
    dataset, problem = find(published, data_dir, labels)
    if dataset is None:
        raise UserError(problem)
    return dataset


def find(
    published: Published,
    data_dir: str | os.PathLike[str] | None,
    labels: Labels,
    before_download: Callable[[Published, Path], None] | None = None,
) -> tuple[Dataset | None, str]:
    """Returns a data set as `load` does, or why it is neither on disk nor reachable.

    Args:
        published: the data set.
        data_dir: see `load`.
        labels: see `load`.
        before_download: called with the data set and an existing directory that lacks
            it; may raise UserError.
    """
    directory = data_directory(data_dir)
    try:
        if not stat.S_ISDIR(directory.stat().st_mode):
            raise UserError(
                f"--data_dir={directory} is a file; pass the directory with the data"
            )
        directory = tfds_builder.find_data_dir(published, directory)
        tfds_builder.delete_leftovers(published, directory)
        found, remark = _find_on_disk(published, directory)
        if found is None and before_download is not None:
            before_download(published, directory)
    except FileNotFoundError:
        found, remark = None, None
    except (OSError, ValueError) as error:
        raise explain_unreadable(directory, error) from error
    if found is None and not (data_dir or os.environ.get(_VARIABLE)):
        found = _find_elsewhere(published)
    if found is None:
        problems = []
        for file in (published.download, *published.mirrors):
            if problem := download.why_unreachable(file.url):
                problems.append(problem)
            else:
                break
        else:
            return None, (
                f"{published.title} is not in {directory}, and {published.url} cannot "
                f"be reached ({problems[0]})"
                + (f"; {remark}" if remark else "")
                + f"; put {published.binary.archive} (from {HOME_PAGE}) into "
                f"{directory}, or name the directory that contains it with --data_dir"
            )
        found = _download(published, directory)
    return _dataset(published, *found, labels), ""


def explain_unreadable(directory: Path, error: Exception) -> UserError:
    """Returns the error to raise if the data directory cannot be read."""
    reason = getattr(error, "strerror", None) or error
    return UserError(
        f"--data_dir={directory} cannot be read ({reason}); check its permissions, or "
        "pass a different directory"
    )


# Training images, test images, and where they were.
_Found = tuple[Records, Records, Path]


def _find_on_disk(
    published: Published, directory: Path
) -> tuple[_Found | None, str | None]:
    """Returns the data there, and a remark on a copy that cannot be read."""
    remark = None
    if tfds_builder.is_available():
        prepared = tfds_builder.prepared_folder(published, directory)
        if archives.is_there(prepared):
            return (*tfds_builder.read_prepared(published, directory), prepared), None
        theirs, remark = tfds_builder.find_tfds(published, directory)
        if theirs:
            return (*tfds_builder.read_tfds(published, theirs), theirs), None
    if archive := archives.find(published, directory):
        return (*archives.read(published, *archive), archive[0]), remark
    if folder := parquet_files.find(directory):
        return (*parquet_files.read(published, folder), folder), remark
    return None, remark


def _find_elsewhere(published: Published) -> _Found | None:
    """Returns the data that torchvision or Keras left in their usual places.

    Damaged data are ignored, since nobody asked for them.
    """
    keras = Path(os.environ.get("KERAS_HOME") or "~/.keras")
    for place in (Path("data"), keras / "datasets"):
        # RuntimeError: there is no home directory.
        with contextlib.suppress(UserError, OSError, RuntimeError):
            if archive := archives.find(published, place.expanduser()):
                return (*archives.read(published, *archive), archive[0])
    return None


def _download(published: Published, directory: Path) -> _Found:
    """Downloads a data set into a directory and prepares it there, once."""
    try:
        str(directory).encode()  # array_record accepts no other names
    except UnicodeEncodeError as error:
        raise UserError(
            f"cannot download to {directory}, whose name is not UTF-8; choose another "
            "directory with --data_dir"
        ) from error
    # If several runs start at the same time, one of them downloads.
    with download.lock(directory, published.title, megabytes=350):
        found, _ = _find_on_disk(published, directory)
        if found is None:
            archive = _fetch((published.download, *published.mirrors), directory)
            if tfds_builder.is_available():
                tfds_builder.prepare(published, directory, archive)
            found, _ = _find_on_disk(published, directory)
    assert found is not None
    return found


def _fetch(files: Sequence[Download], directory: Path) -> Path:
    """Downloads the first of the files that a server delivers."""
    failure = None
    for file in files:
        if failure is not None:
            console.warn(f"{failure}; trying {file.url}")
        try:
            return download.fetch(file, directory)
        except RunError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _dataset(
    published: Published, train: Records, test: Records, place: Path, labels: Labels
) -> Dataset:
    """Returns the data set, with a notice unless it is the official one."""
    kind = published.labels.index(labels)
    dataset = Dataset.create(
        published.name,
        train.split(kind),
        test.split(kind),
        class_names=labels.class_names,
        source=f"{published.title}, from {place}",
    )
    difference = _difference(published.official, dataset, train, test)
    if difference is None:
        source = f"official {dataset.source}"
        return dataclasses.replace(dataset, source=source, official=True)
    return dataclasses.replace(
        dataset,
        notice=f"{place} is not the official {published.title}: it has {difference}.\n"
        "Compare its results only with those of the same data, "
        f"fingerprint {dataset.fingerprint[:16]}.",
    )


def _difference(
    official: Fingerprints | RecordsMD5, dataset: Dataset, train: Records, test: Records
) -> str | None:
    """Describes how data differ from the official ones; None if they are equal."""
    match official:
        case RecordsMD5():
            same = official == RecordsMD5(train.md5(), test.md5())
            return None if same else "other pixels or labels, or another order"
        case Fingerprints(ordered, _) if dataset.fingerprint == ordered:
            return None
        case Fingerprints(_, unordered):
            same = unordered_fingerprint(dataset.train, dataset.test) == unordered
            return "the same pixels in another order" if same else "other pixels"


def data_directory(data_dir: str | os.PathLike[str] | None) -> Path:
    """Returns the data directory; raises UserError if its name is invalid."""
    if not isinstance(data_dir, str | os.PathLike | None):
        raise UserError(f"--data_dir={data_dir!r} is not the name of a directory")
    given = data_dir or os.environ.get(_VARIABLE) or "~/tensorflow_datasets"
    try:
        return Path(given).expanduser()
    except RuntimeError as error:  # no such user, or no home directory
        raise UserError(
            f"--data_dir={given} is not the name of a directory: {error}"
        ) from None
