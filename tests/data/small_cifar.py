"""Small archives in the official layouts, and a server to fetch them from."""

import contextlib
import dataclasses
import hashlib
import http.server
import io
import os
import struct
import tarfile
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from cifar_jax.data import Split
from cifar_jax.data.cifar import cifar10, cifar100
from cifar_jax.data.cifar.published import Fingerprints, Layout, Published, RecordsMD5
from cifar_jax.data.split import fingerprint, unordered_fingerprint

RECORDS = 20


def small(published: Published) -> Published:
    """Returns a data set with a few records in each file."""
    parts = {
        split: tuple(
            dataclasses.replace(part, records=RECORDS)
            for part in getattr(published, split)
        )
        for split in ("train", "test")
    }
    return dataclasses.replace(published, **parts, mirrors=())


CIFAR10 = small(cifar10.CIFAR10)
CIFAR100 = small(cifar100.CIFAR100)
KINDS = ("binary", "python", "matlab")


def layout(kind: str, published: Published = CIFAR10) -> Layout:
    return published.layouts[KINDS.index(kind)]


def change(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Changes fields of both data sets, as seen by `load`."""
    for module, name in ((cifar10, "CIFAR10"), (cifar100, "CIFAR100")):
        changed = dataclasses.replace(getattr(module, name), **changes)
        monkeypatch.setattr(module, name, changed)


def arrays(
    seed: int = 0, published: Published = CIFAR10
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns random pixels [n, 3072] and labels [n, kinds] for each file."""
    rng = np.random.default_rng(seed)
    classes = [len(kind.class_names) for kind in published.labels]
    return {
        part.stem: (
            rng.integers(0, 256, (RECORDS, 3072), np.uint8),
            rng.integers(0, classes, (RECORDS, len(classes)), np.uint8),
        )
        for part in (*published.train, *published.test)
    }


def splits(published: Published = CIFAR10, kind: int = 0) -> tuple[Split, Split]:
    """Returns the arrays as the training and test splits, with one type of labels."""
    parts = [
        Split(
            pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1),
            labels[:, kind].astype(np.int32),
        )
        for pixels, labels in arrays(published=published).values()
    ]
    train = Split(
        np.concatenate([part.images for part in parts[:-1]]),
        np.concatenate([part.labels for part in parts[:-1]]),
    )
    return train, parts[-1]


def official(published: Published) -> Published:
    """Returns a data set that takes the arrays for the official data."""
    if published.name == "cifar10":
        known = Fingerprints(
            fingerprint(*splits(published)), unordered_fingerprint(*splits(published))
        )
    else:
        contents = files("binary", published=published).values()
        known = RecordsMD5(*(hashlib.md5(file).hexdigest() for file in contents))
    return dataclasses.replace(published, official=known)


def binary_file(pixels: np.ndarray, labels: np.ndarray, keys: Sequence[str]) -> bytes:
    return np.hstack([labels, pixels]).tobytes()


def python_file(pixels: np.ndarray, labels: np.ndarray, keys: Sequence[str]) -> bytes:
    """Returns a file as pickled by Python 2's cPickle, like the official ones."""
    rows, columns = pixels.shape
    raw = pixels.tobytes()
    lists = [
        b"U" + bytes([len(key)]) + key.encode() + b"]("
        b"%be" % b"".join(b"K" + bytes([label]) for label in column)
        for key, column in zip(keys, labels.T, strict=True)
    ]
    return b"".join(
        [
            b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03",
            *lists,
            b"U\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07",
            b"cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09(K\x01",
            b"M"
            + struct.pack("<H", rows)
            + b"M"
            + struct.pack("<H", columns)
            + b"\x86",
            b"cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNN",
            b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            b"T" + struct.pack("<i", len(raw)) + raw,
            b"tbU\x09filenamesq\x0c]r\x0d\x00\x00\x00(U\x05a.pngU\x05b.pngeu.",
        ]
    )


def matlab_file(
    pixels: np.ndarray,
    labels: np.ndarray,
    keys: Sequence[str],
    compressed: bool = True,
) -> bytes:
    file = io.BytesIO()
    columns = dict(zip(keys, np.hsplit(labels, len(keys)), strict=True))
    variables = {"data": pixels, "batch_label": "batch", **columns}
    scipy.io.savemat(file, variables, do_compression=compressed)
    return file.getvalue()


ENCODERS = {"binary": binary_file, "python": python_file, "matlab": matlab_file}


def encode(
    kind: str, pixels: np.ndarray, labels: np.ndarray, published: Published = CIFAR10
) -> bytes:
    """Returns the contents of a file in a layout."""
    return ENCODERS[kind](pixels, labels, keys(published))


def keys(published: Published) -> list[str]:
    return [kind.key for kind in published.labels]


def files(kind: str, seed: int = 0, published: Published = CIFAR10) -> dict[str, bytes]:
    """Returns the contents of all files of a layout, by file name."""
    suffix = layout(kind, published).format.suffix
    return {
        stem + suffix: encode(kind, *pair, published)
        for stem, pair in arrays(seed, published).items()
    }


def archive_bytes(
    kind: str, contents: dict[str, bytes], published: Published = CIFAR10
) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for name, data in contents.items():
            add_member(archive, f"{layout(kind, published).folder}/{name}", data)
    return file.getvalue()


def add_member(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def write_archive(
    data_dir: Path,
    kind: str = "binary",
    contents: dict[str, bytes] | None = None,
    published: Published = CIFAR10,
) -> Path:
    path = data_dir / layout(kind, published).archive
    contents = contents or files(kind, published=published)
    path.write_bytes(archive_bytes(kind, contents, published))
    return path


def write_folder(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return folder


def peak_bytes(function, *arguments):
    tracemalloc.start()
    function(*arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


NO_FILES = (os.mkfifo, Path.mkdir, link_to_itself)


def described(content: bytes) -> dict[str, int | str]:
    """Returns the size and checksum of a file as in a Download."""
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@contextlib.contextmanager
def served(
    body: bytes, length: int | None = None, status: int = 200, stall: bool = False
) -> Iterator[str]:
    """Serves `body`, announced as `length` bytes long, and yields its URL.

    If `length` exceeds the body, the connection is closed after the body, or stalls.
    """
    over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(length or len(body)))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(body)
            if stall:
                over.wait()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/cifar-10-binary.tar.gz"
        finally:
            over.set()
            server.shutdown()
            thread.join()
