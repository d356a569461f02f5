"""Downloads published data set files and verifies their checksums."""

import contextlib
import dataclasses
import errno
import hashlib
import queue
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import filelock

from cifar_jax.errors import RunError, UserError


@dataclasses.dataclass(frozen=True)
class Download:
    """A published file.

    Attributes:
        url: its address.
        size: in bytes.
        sha256: its checksum, in hex.
        name: its name on disk.
        title: the data set's title, for messages.
        home_page: web page where people find the file.
    """

    url: str
    size: int
    sha256: str
    name: str
    title: str
    home_page: str


ANSWER_SECS = 8.0
# For connecting, and for receiving the next bytes.
TIMEOUTS_SECS = (8.0, 60.0)
BLOCK_BYTES = 1 << 20
_LOCK = ".cifar_jax.lock"
# Busy servers often answer the next time.
_TRIES = 3
PAUSE_SECS = 2.0


def fetch(download: Download, data_dir: Path) -> Path:
    """Downloads a file into data_dir, showing progress on stderr.

    The file gets its final name only once it is complete and its checksum matches. If
    the server can, each of the _TRIES, or the next download, resumes from the *.partial
    file that an interrupted download leaves.

    Raises:
        RunError: the download fails or returns anything but the published file.
        OSError: the file cannot be written.
    """
    # Imported here because most runs find the data on disk.
    import requests

    path = data_dir / download.name
    partial = path.with_name(path.name + ".partial")
    by_hand = f"try again, or put {path.name} into {data_dir} by hand"
    for left in reversed(range(_TRIES)):
        try:
            _receive(download, partial)
            break
        except requests.RequestException as error:
            if not left:
                raise RunError(
                    f"the download of {download.url} failed ({error}); {by_hand}"
                ) from error
            time.sleep(PAUSE_SECS)
    with partial.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != download.sha256:
        size = partial.stat().st_size
        partial.unlink()
        raise RunError(
            f"the response from {download.url} is not the official {download.name} of "
            f"{download.size:,} bytes (it has {size:,} bytes, SHA-256 {sha256}); "
            f"{by_hand}"
        )
    partial.replace(path)
    return path


def _receive(download: Download, partial: Path) -> None:
    """Receives a file, or the part of it that is missing."""
    import requests
    from tqdm import tqdm

    if partial.is_symlink() or not partial.is_file():  # it may be a link or a FIFO
        partial.unlink(missing_ok=True)
    size = partial.stat().st_size if partial.exists() else 0
    if size >= download.size:
        partial.unlink(missing_ok=True)
        size = 0
    headers = {"Accept-Encoding": "identity"}  # keeps archives packed
    if size:
        headers["Range"] = f"bytes={size}-"
    with requests.get(
        download.url, stream=True, timeout=TIMEOUTS_SECS, headers=headers
    ) as response:
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            size = 0  # the server sends all of it
        with (
            partial.open("ab" if size else "wb") as file,
            tqdm(
                desc=f"Downloading {download.title}",
                total=download.size,
                initial=size,
                unit="B",
                unit_scale=True,
                file=sys.stderr,
            ) as progress,
        ):
            for block in response.iter_content(BLOCK_BYTES):
                file.write(block)
                progress.update(len(block))
                if file.tell() > download.size:
                    break  # an endless response would fill the disk


@contextlib.contextmanager
def lock(directory: Path, title: str, megabytes: int) -> Iterator[None]:
    """Creates a directory and locks it, so that only one run at a time downloads to it.

    Args:
        directory: the data directory.
        title: the data set's title, for messages.
        megabytes: disk space that the data set takes there.

    Raises:
        UserError: the directory is not writable.
        RunError: its disk is full.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(directory / _LOCK):
            yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"the disk of {directory} is full ({title} takes {megabytes:,} MB "
                "there); make room, or choose another directory with --data_dir"
            ) from error
        raise UserError(
            f"cannot write to {directory} ({error.strerror or error}); choose another "
            "directory with --data_dir"
        ) from error


@contextlib.contextmanager
def lock_if_free(directory: Path) -> Iterator[bool]:
    """Locks a directory, or yields False if a run is or may be downloading into it."""
    try:
        lock = filelock.FileLock(directory / _LOCK, timeout=0).acquire()
    except OSError:  # A lock that is already held raises one, too.
        yield False
    else:
        with lock:
            yield True


def why_unreachable(url: str) -> str | None:
    """Asks a server for a file's headers; returns None, or why there was no answer.

    Without a network this takes seconds, and nothing is written. Proxies from the
    environment are used, as for the download.
    """
    answer: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=ANSWER_SECS):
                answer.put(None)
        except urllib.error.HTTPError as error:
            error.close()
            answer.put(f"HTTP status {error.code}, {error.reason}")
        except Exception as error:  # DNS, TLS, proxy, a malformed reply
            answer.put(str(getattr(error, "reason", error)) or type(error).__name__)

    # In a thread, because no timeout of urllib covers a silent name server.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.get(timeout=ANSWER_SECS)
    except queue.Empty:
        return f"no answer within {ANSWER_SECS:g} s"
