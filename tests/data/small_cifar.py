"""Small archives in the three official layouts, and a server to fetch them from."""

import contextlib
import http.server
import io
import os
import struct
import tarfile
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.io

from cifar_jax.data import Split, archives

RECORDS = 20
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
LAYOUTS = {
    "binary": archives.LAYOUTS[0],
    "python": archives.LAYOUTS[1],
    "matlab": archives.LAYOUTS[2],
}


def arrays(seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns random pixels [n, 3072] and labels [n] for each batch."""
    rng = np.random.default_rng(seed)
    return {
        batch: (
            rng.integers(0, 256, (RECORDS, 3072), np.uint8),
            rng.integers(0, 10, RECORDS, np.uint8),
        )
        for batch in BATCHES
    }


def splits() -> tuple[Split, Split]:
    """Returns the arrays as the training and the test split."""
    batches = [
        Split(
            pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels.astype(np.int32)
        )
        for pixels, labels in arrays().values()
    ]
    train = Split(
        np.concatenate([batch.images for batch in batches[:5]]),
        np.concatenate([batch.labels for batch in batches[:5]]),
    )
    return train, batches[5]


def binary_file(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    return np.hstack([labels[:, None], pixels]).tobytes()


def python_file(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """Returns a batch as pickled by Python 2's cPickle, like the official files."""
    rows, columns = pixels.shape
    raw = pixels.tobytes()
    return b"".join(
        [
            b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03",
            b"U\x06labelsq\x04]q\x05(",
            *(b"K" + bytes([label]) for label in labels),
            b"eU\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07",
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
    pixels: np.ndarray, labels: np.ndarray, compressed: bool = True
) -> bytes:
    file = io.BytesIO()
    variables = {"data": pixels, "labels": labels[:, None], "batch_label": "batch"}
    scipy.io.savemat(file, variables, do_compression=compressed)
    return file.getvalue()


ENCODERS = {"binary": binary_file, "python": python_file, "matlab": matlab_file}


def files(kind: str, seed: int = 0) -> dict[str, bytes]:
    """Returns the contents of the six files of a layout, by file name."""
    return {
        batch + LAYOUTS[kind].suffix: ENCODERS[kind](*pair)
        for batch, pair in arrays(seed).items()
    }


def archive_bytes(kind: str, contents: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for name, data in contents.items():
            add_member(archive, f"{LAYOUTS[kind].folder}/{name}", data)
    return file.getvalue()


def add_member(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def write_archive(
    data_dir: Path, kind: str = "binary", contents: dict[str, bytes] | None = None
) -> Path:
    path = data_dir / LAYOUTS[kind].archive
    path.write_bytes(archive_bytes(kind, contents or files(kind)))
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
