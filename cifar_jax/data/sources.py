"""Finds CIFAR-10 on disk, or downloads it, or says plainly what it takes instead."""

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

from cifar_jax.checks import check_integer
from cifar_jax.data import archives, digits, download, tfds_builder
from cifar_jax.data.dataset import (
    OFFICIAL_UNORDERED,
    Dataset,
    Split,
    fingerprint,
    unordered_fingerprint,
    with_validation,
)
from cifar_jax.errors import RunError, UserError

NAMES = ("auto", "cifar10", "digits")
_SECONDS_TO_ANSWER = 8.0


def load(
    name: str = "auto",
    data_dir: str | os.PathLike[str] | None = None,
    validation_size: int = 0,
) -> Dataset:
    """Returns a data set, all of it in memory.

    CIFAR-10 is looked for in this order: what our TFDS builder prepared in data_dir,
    what TFDS's own `cifar10` did, an official archive (binary, python, matlab), an
    unpacked one. Else it is downloaded and prepared, once. Whatever the source, its
    pixels decide whether it is the official CIFAR-10.

    Args:
        name: "cifar10", "digits" (the stand-in), or "auto": cifar10, and the stand-in
            only if cifar10 is neither on disk nor can be downloaded.
        data_dir: None for TFDS's default, $TFDS_DATA_DIR or ~/tensorflow_datasets.
        validation_size: how many training images, the last ones, to hold out.

    Raises:
        UserError: an argument is unusable, the data on disk are damaged, or cifar10
            can be had neither from disk nor from its server.
        RunError: the download or the preparation failed halfway.
    """
    if not isinstance(name, str) or name not in NAMES:
        raise UserError(f"no data set is called {name!r}; choose {', '.join(NAMES)}")
    validation_size = check_integer(validation_size, "--validation_size", at_least=0)
    dataset = digits.load() if name == "digits" else _cifar10(name, _folder(data_dir))
    return with_validation(dataset, validation_size)


def _folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """The folder of the data; raises UserError if its name cannot be one."""
    if not isinstance(data_dir, str | os.PathLike | None):
        raise UserError(f"--data_dir={data_dir!r} is not the name of a folder")
    given = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    try:
        return Path(given).expanduser()
    except RuntimeError as error:  # no such user, or no home folder
        raise UserError(
            f"--data_dir={given} is not the name of a folder: {error}"
        ) from None


def _cifar10(name: str, folder: Path) -> Dataset:
    try:
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise UserError(
                f"--data_dir={folder} is a file; give the folder that holds the data"
            )
        dataset, remark = _on_disk(folder)
    except FileNotFoundError:
        dataset, remark = None, None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--data_dir={folder} cannot be read ({reason}); check its "
            "permissions, or give another folder"
        ) from error
    if dataset is not None:
        return dataset
    problem = why_unreachable(download.URL)
    if problem is None:
        return _downloaded(folder)
    problem = (
        f"CIFAR-10 is not in {folder}, and {download.URL} cannot be reached "
        f"({problem})" + (f"; {remark}" if remark else "")
    )
    way_out = (
        f"put {archives.BINARY.archive} (from {archives.HOME_PAGE}) into {folder}, or "
        "name the folder that holds it with --data_dir"
    )
    if name == "cifar10":
        raise UserError(f"{problem}; {way_out}")
    notice = f"{problem}.\n{digits.NOTICE}\nFor the real data, {way_out}."
    return dataclasses.replace(digits.load(), notice=notice)


def _on_disk(folder: Path) -> tuple[Dataset | None, str | None]:
    """CIFAR-10 as found in a folder, and a remark on a copy that cannot be read."""
    remark = None
    if tfds_builder.available():
        prepared = tfds_builder.prepared_folder(folder)
        if archives.is_there(prepared):
            return _dataset(*tfds_builder.read_prepared(folder), prepared), None
        theirs, remark = tfds_builder.find_tfds_cifar10(folder)
        if theirs:
            return _dataset(*tfds_builder.read_tfds_cifar10(theirs), theirs), None
    found = archives.find(folder)
    return (_dataset(*archives.read(*found), found[0]) if found else None), remark


def _downloaded(folder: Path) -> Dataset:
    """CIFAR-10, downloaded into a folder and prepared there, once."""
    try:
        str(folder).encode()  # array_record takes no other names
        folder.mkdir(parents=True, exist_ok=True)
        # Of runs that start at the same time one does it.
        with filelock.FileLock(folder / ".cifar_jax.lock"):
            dataset, _ = _on_disk(folder)
            if dataset is None:
                archive = download.fetch_archive(folder)
                if tfds_builder.available():
                    tfds_builder.prepare(folder, archive)
                dataset, _ = _on_disk(folder)
    except UnicodeEncodeError as error:
        raise UserError(
            f"cannot download to {folder}, whose name is not UTF-8; choose another "
            "folder with --data_dir"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"the disk of {folder} is full (CIFAR-10 takes 350 MB there); make "
                "room, or choose another folder with --data_dir"
            ) from error
        raise UserError(
            f"cannot write to {folder} ({error.strerror or error}); choose another "
            "folder with --data_dir"
        ) from error
    assert dataset is not None
    return dataset


def _dataset(train: Split, test: Split, place: Path) -> Dataset:
    """CIFAR-10 as found in a place, with a warning unless it is the official one."""
    dataset = Dataset(
        name="cifar10",
        train=train,
        validation=None,
        test=test,
        class_names=archives.CLASS_NAMES,
        source=f"CIFAR-10, from {place}",
        fingerprint=fingerprint(train, test),
        notice=None,
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

    Without a network this takes seconds, and nothing has been written yet. Proxies
    named in the environment are used, as they are for the download.
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

    # In a thread, because no timeout of urllib covers a name server that is silent.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.get(timeout=_SECONDS_TO_ANSWER)
    except queue.Empty:
        return f"no answer within {_SECONDS_TO_ANSWER:g} s"
