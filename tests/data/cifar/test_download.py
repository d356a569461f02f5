import dataclasses
import hashlib
import http.server
import os
import socket
import threading
from importlib import resources
from pathlib import Path

import pytest
import small_cifar

from cifar_jax.data.cifar import archives, cifar10, cifar100, download
from cifar_jax.errors import RunError

ARCHIVE = small_cifar.archive_bytes("binary", small_cifar.files("binary"))
# Makes the small archive count as the official one.
EXPECTED = dataclasses.replace(
    small_cifar.CIFAR10,
    size=len(ARCHIVE),
    sha256=hashlib.sha256(ARCHIVE).hexdigest(),
)


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    monkeypatch.setattr(download, "PAUSE_SECS", 0)


def fetch(data_dir, *served, published=EXPECTED, **options):
    with small_cifar.served(*served, **options) as url:
        there = dataclasses.replace(published, url=url)
        return download.fetch(there.download, data_dir)


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("CIFAR-10", "cifar-10-binary.tar.gz"),
        ("CIFAR-100", "cifar-100-binary.tar.gz"),
    ],
)
def test_the_archive_gets_its_name_and_progress_is_shown(tmp_path, capsys, title, name):
    small = {p.title: p for p in (small_cifar.CIFAR10, small_cifar.CIFAR100)}[title]
    known = {"size": EXPECTED.size, "sha256": EXPECTED.sha256}
    published = dataclasses.replace(small, **known)
    path = fetch(tmp_path, ARCHIVE, published=published)
    assert path == tmp_path / name
    assert path.read_bytes() == ARCHIVE
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    printed = capsys.readouterr()
    assert f"Downloading {title}:" in printed.err
    assert printed.out == ""


def test_another_file_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"not the official .*has 5 bytes, SHA-256 d9"):
        fetch(tmp_path, b"other")
    assert archives.find(EXPECTED, tmp_path) is None


def test_an_endless_response_does_not_fill_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "BLOCK_BYTES", 1000)
    written = []
    unlink = Path.unlink
    monkeypatch.setattr(
        Path,
        "unlink",
        lambda path, **options: (
            path.exists() and written.append(path.stat().st_size),
            unlink(path, **options),
        ),
    )
    with pytest.raises(RunError, match="not the official cifar-10-binary"):
        fetch(tmp_path, ARCHIVE + bytes(100_000))
    assert written[0] <= len(ARCHIVE) + 1000
    assert list(tmp_path.iterdir()) == []


def test_anything_named_like_the_partial_file_is_replaced(tmp_path):
    os.mkfifo(tmp_path / f"{EXPECTED.binary.archive}.partial")
    assert fetch(tmp_path, ARCHIVE).read_bytes() == ARCHIVE


def test_an_interrupted_download_is_reported_and_can_be_repeated(tmp_path):
    with pytest.raises(RunError, match=r"download of .* failed"):
        fetch(tmp_path, ARCHIVE[:1000], length=len(ARCHIVE))
    assert archives.find(EXPECTED, tmp_path) is None
    assert fetch(tmp_path, ARCHIVE).read_bytes() == ARCHIVE


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_broken_download_goes_on_where_it_stopped(
    tmp_path, knows_ranges, monkeypatch
):
    monkeypatch.setattr(download, "BLOCK_BYTES", 100)
    sent = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            start = int((self.headers["Range"] or "bytes=0-")[6:-1])
            start = start if knows_ranges else 0
            body = ARCHIVE[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            part = body[: 1000 if len(sent) < 2 else len(body)]
            sent.append((start, len(part)))
            self.wfile.write(part)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        url = f"http://127.0.0.1:{server.server_port}/archive"
        there = dataclasses.replace(EXPECTED, url=url)
        path = download.fetch(there.download, tmp_path)
        server.shutdown()
    assert path.read_bytes() == ARCHIVE
    starts = [0, 1000, 2000] if knows_ranges else [0, 0, 0]
    assert [start for start, _ in sent] == starts


def test_a_partial_file_of_something_else_does_not_stay(tmp_path):
    partial = tmp_path / f"{EXPECTED.binary.archive}.partial"
    partial.write_bytes(bytes(len(ARCHIVE)))
    assert fetch(tmp_path, ARCHIVE).read_bytes() == ARCHIVE
    assert not partial.exists()


def test_an_error_status_of_the_server_is_reported(tmp_path):
    with pytest.raises(RunError, match=r"failed .*503"):
        fetch(tmp_path, b"", status=503)


def test_a_server_that_stalls_halfway_times_out(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUTS_SECS", (5, 0.2))
    with pytest.raises(RunError, match=r"failed .*[Tt]imed? ?out"):
        fetch(tmp_path, ARCHIVE[:1000], length=10**6, stall=True)
    assert archives.find(EXPECTED, tmp_path) is None


def test_a_server_that_never_answers_times_out(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUTS_SECS", (0.2, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        there = dataclasses.replace(EXPECTED, url=f"http://127.0.0.1:{port}/archive")
        with pytest.raises(RunError, match=r"failed .*[Tt]imed? ?out"):
            download.fetch(there.download, tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(OSError, match=os.strerror(2)):
        fetch(tmp_path / "missing", ARCHIVE)


@pytest.mark.parametrize("published", [cifar10.CIFAR10, cifar100.CIFAR100])
def test_the_download_is_the_one_that_tfds_checks(published):
    folder = resources.files("tensorflow_datasets") / "url_checksums"
    line = (folder / f"{published.name}.txt").read_text().splitlines()[0]
    known = [published.url, str(published.size), published.sha256]
    assert line.split("\t")[:3] == known


def test_a_silent_server_is_unreachable(monkeypatch):
    monkeypatch.setattr(download, "ANSWER_SECS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert download.why_unreachable(f"http://127.0.0.1:{port}/") is not None


def test_a_silent_name_server_is_unreachable(monkeypatch):
    monkeypatch.setattr(download, "ANSWER_SECS", 0.01)
    # The deadline holds no matter what blocks inside the request.
    released = download.threading.Event()
    monkeypatch.setattr(
        download.urllib.request, "urlopen", lambda *_, **__: released.wait(60)
    )
    assert "no answer within" in download.why_unreachable("http://nowhere.invalid/")
    released.set()


@pytest.mark.parametrize("status", [403, 404, 500])
def test_error_status_counts_as_unreachable(status):
    with small_cifar.served(b"", status=status) as url:
        assert str(status) in download.why_unreachable(url)


def test_answering_server_is_reachable():
    with small_cifar.served(b"data") as url:
        assert download.why_unreachable(url) is None
