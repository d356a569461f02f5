"""Finds CIFAR-10 on disk, or downloads it."""

import dataclasses
import errno
import os
import queue
import stat
import threading
import urllib.error
import urllib.request
from pathlib import Path

import filelock

from cifar_jax.data import archives, digits, download, tfds_builder
from cifar_jax.data.dataset import (
    OFFICIAL_UNORDERED,
    Dataset,
    Split,
    unordered_fingerprint,
)
from cifar_jax.errors import RunError, UserError

_SECONDS_TO_ANSWER = 8.0


def load(data_dir: str | os.PathLike[str] | None) -> Dataset:
    """Returns CIFAR-10.

    It is looked for in this order: what our TFDS builder prepared in data_dir, what
    TFDS's own `cifar10` prepared, an official archive (binary, python, matlab), an
    unpacked one. Otherwise it is downloaded and prepared, once. Whatever the source,
    the pixels decide whether it is the official CIFAR-10.

    Args:
        data_dir: None for TFDS's default, $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Raises:
        UserError: data_dir cannot be used, the data on disk are damaged, or CIFAR-10 is
            neither on disk nor reachable.
        RunError: the download or the preparation failed halfway.
    """
    dataset, problem = _find(_directory(data_dir))
    if dataset is None:
        raise UserError(problem)
    return dataset


def load_or_digits(data_dir: str | os.PathLike[str] | None) -> Dataset:
    """Returns CIFAR-10, or the digits if it is neither on disk nor reachable.

    Args:
        data_dir: see `load`.

    Raises:
        UserError: data_dir cannot be used, or the data on disk are damaged.
        RunError: the download or the preparation failed halfway.
    """
    dataset, problem = _find(_directory(data_dir))
    if dataset is not None:
        return dataset
    notice = f"{digits.NOTICE}\nThe reason: {problem}."
    return dataclasses.replace(digits.load(), notice=notice)


def _directory(data_dir: str | os.PathLike[str] | None) -> Path:
    """Returns the directory of the data; raises UserError if it cannot be one."""
    if not isinstance(data_dir, str | os.PathLike | None):
        raise UserError(f"--data_dir={data_dir!r} is not the name of a directory")
    given = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    try:
        return Path(given).expanduser()
    except RuntimeError as error:  # no such user, or no home directory
        raise UserError(
            f"--data_dir={given} is not the name of a directory: {error}"
        ) from None


def _find(directory: Path) -> tuple[Dataset | None, str]:
    """Returns CIFAR-10, from disk or downloaded, or why there is none."""
    try:
        if not stat.S_ISDIR(directory.stat().st_mode):
            raise UserError(
                f"--data_dir={directory} is a file; give the directory with the data"
            )
        dataset, remark = _on_disk(directory)
    except FileNotFoundError:
        dataset, remark = None, None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--data_dir={directory} cannot be read ({reason}); check its permissions, "
            "or give another directory"
        ) from error
    if dataset is not None:
        return dataset, ""
    problem = why_unreachable(download.URL)
    if problem is None:
        return _downloaded(directory), ""
    return None, (
        f"CIFAR-10 is not in {directory}, and {download.URL} cannot be reached "
        f"({problem})" + (f"; {remark}" if remark else "") + "; put "
        f"{archives.BINARY.archive} (from {archives.HOME_PAGE}) into {directory}, or "
        "name the directory that contains it with --data_dir"
    )


def _on_disk(directory: Path) -> tuple[Dataset | None, str | None]:
    """Returns CIFAR-10 if it is there, and a remark on a copy that cannot be read."""
    remark = None
    if tfds_builder.available():
        prepared = tfds_builder.prepared_folder(directory)
        if archives.is_there(prepared):
            return _dataset(*tfds_builder.read_prepared(directory), prepared), None
        theirs, remark = tfds_builder.find_tfds_cifar10(directory)
        if theirs:
            return _dataset(*tfds_builder.read_tfds_cifar10(theirs), theirs), None
    found = archives.find(directory)
    return (_dataset(*archives.read(*found), found[0]) if found else None), remark


def _downloaded(directory: Path) -> Dataset:
    """Downloads CIFAR-10 into a directory and prepares it there, once."""
    try:
        str(directory).encode()  # array_record accepts no other names
        directory.mkdir(parents=True, exist_ok=True)
        # If several runs start at the same time, one of them does it.
        with filelock.FileLock(directory / ".cifar_jax.lock"):
            dataset, _ = _on_disk(directory)
            if dataset is None:
                archive = download.fetch_archive(directory)
                if tfds_builder.available():
                    tfds_builder.prepare(directory, archive)
                dataset, _ = _on_disk(directory)
    except UnicodeEncodeError as error:
        raise UserError(
            f"cannot download to {directory}, whose name is not UTF-8; choose another "
            "directory with --data_dir"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"the disk of {directory} is full (CIFAR-10 takes 350 MB there); make "
                "room, or choose another directory with --data_dir"
            ) from error
        raise UserError(
            f"cannot write to {directory} ({error.strerror or error}); choose another "
            "directory with --data_dir"
        ) from error
    assert dataset is not None
    return dataset


def _dataset(train: Split, test: Split, place: Path) -> Dataset:
    """Returns the data set, with a notice unless it is the official CIFAR-10."""
    dataset = Dataset.create(
        "cifar10",
        train,
        test,
        class_names=archives.CLASS_NAMES,
        source=f"CIFAR-10, from {place}",
    )
    if dataset.official:
        return dataclasses.replace(dataset, source=f"official {dataset.source}")
    same_pixels = unordered_fingerprint(train, test) == OFFICIAL_UNORDERED
    difference = "the same pixels in another order" if same_pixels else "other pixels"
    return dataclasses.replace(
        dataset,
        notice=f"{place} is not the official CIFAR-10: it has {difference}.\n"
        "Compare its results only with those of the same data, "
        f"fingerprint {dataset.fingerprint[:16]}.",
    )


def why_unreachable(url: str) -> str | None:
    """Asks a server for a file's headers; returns None, or why there was no answer.

    Without a network this takes seconds, and nothing is written. Proxies from the
    environment are used, as for the download.
    """
    answer: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=_SECONDS_TO_ANSWER):
                answer.put(None)
        except urllib.error.HTTPError as error:
            error.close()
            answer.put(f"HTTP status {error.code}, {error.reason}")
        except Exception as error:  # DNS, TLS, proxy, a malformed reply
            answer.put(str(getattr(error, "reason", error)) or type(error).__name__)

    # In a thread, because no timeout of urllib covers a silent name server.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.get(timeout=_SECONDS_TO_ANSWER)
    except queue.Empty:
        return f"no answer within {_SECONDS_TO_ANSWER:g} s"
