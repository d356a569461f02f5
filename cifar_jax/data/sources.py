"""Finds CIFAR-10 on disk, or downloads it, or says plainly what it takes instead."""

import dataclasses
import os
import queue
import threading
import urllib.error
import urllib.request
from pathlib import Path

from cifar_jax.data import archives, digits, tfds_builder
from cifar_jax.data.dataset import Dataset, Split, fingerprint, with_validation
from cifar_jax.errors import UserError

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
    unpacked one. Else it is downloaded and prepared, once.

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
    if name not in NAMES:
        raise UserError(f"no data set is called {name!r}; choose {', '.join(NAMES)}")
    dataset = digits.load() if name == "digits" else _cifar10(name, data_dir)
    return with_validation(dataset, validation_size)


def _cifar10(name: str, data_dir: str | os.PathLike[str] | None) -> Dataset:
    folder = Path(
        data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    ).expanduser()
    try:
        if folder.exists() and not folder.is_dir():
            raise UserError(
                f"--data_dir={folder} is a file; give the folder that holds the data"
            )
        dataset, remark = _on_disk(folder)
    except OSError as error:
        raise UserError(
            f"--data_dir={folder} cannot be read ({error.strerror}); check its "
            "permissions, or give another folder"
        ) from error
    if dataset is not None:
        return dataset
    problem = why_unreachable(tfds_builder.URL)
    if problem is None:
        tfds_builder.download_and_prepare(folder)
        return _prepared(folder)
    problem = (
        f"CIFAR-10 is not in {folder}, and {tfds_builder.URL} cannot be reached "
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
    if tfds_builder.prepared_folder(folder).exists():
        return _prepared(folder), None
    theirs, remark = tfds_builder.find_tfds_cifar10(folder)
    if theirs:
        train, test = tfds_builder.read_tfds_cifar10(theirs)
        return _dataset(train, test, f"TFDS's own cifar10 in {theirs}"), None
    found = archives.find(folder)
    return (_from_archive(*found) if found else None), remark


def _prepared(folder: Path) -> Dataset:
    train, test = tfds_builder.read_prepared(folder)
    return _dataset(
        train,
        test,
        f"the official archive, prepared in {tfds_builder.prepared_folder(folder)}",
    )


def _from_archive(path: Path, layout: archives.Layout) -> Dataset:
    contents = archives.read(path, layout)
    if contents.official:
        return _dataset(contents.train, contents.test, f"the official archive {path}")
    if contents.official is None:
        source = f"the unpacked folder {path}, whose origin cannot be verified"
        problem = f"No checksum can tell whether {path} is the official CIFAR-10."
    else:
        source = f"{path}, which is not the official archive"
        problem = f"{path} is not the official archive: its MD5 is another."
    dataset = _dataset(contents.train, contents.test, source)
    return dataclasses.replace(
        dataset,
        notice=f"{problem}\nCompare its results only with those of the same data, "
        f"fingerprint {dataset.fingerprint[:16]}.",
    )


def _dataset(train: Split, test: Split, source: str) -> Dataset:
    return Dataset(
        name="cifar10",
        train=train,
        validation=None,
        test=test,
        class_names=archives.CLASS_NAMES,
        source=source,
        fingerprint=fingerprint(train, test),
        notice=None,
    )


def why_unreachable(url: str) -> str | None:
    """Asks a server for a file's headers; returns None, or why there was no answer.

    TFDS would go on trying a dead network for minutes. Proxies named in the
    environment are used, as they are for the download.
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
