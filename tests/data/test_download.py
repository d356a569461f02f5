import hashlib
import os
import socket

import pytest
import small_cifar

from cifar_jax.data import archives, cifar10, download
from cifar_jax.errors import RunError

ARCHIVE = small_cifar.archive_bytes("binary", small_cifar.files("binary"))


@pytest.fixture
def expected(monkeypatch):
    """Makes the small archive count as the official one."""
    monkeypatch.setattr(download, "BYTES", len(ARCHIVE))
    monkeypatch.setattr(download, "SHA256", hashlib.sha256(ARCHIVE).hexdigest())


def fetch(monkeypatch, data_dir, *served, **options):
    with small_cifar.served(*served, **options) as url:
        monkeypatch.setattr(download, "URL", url)
        return download.fetch_archive(data_dir)


@pytest.mark.usefixtures("expected")
def test_the_archive_gets_its_name_and_progress_is_shown(tmp_path, monkeypatch, capsys):
    path = fetch(monkeypatch, tmp_path, ARCHIVE)
    assert path == tmp_path / archives.BINARY.archive
    assert path.read_bytes() == ARCHIVE
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    printed = capsys.readouterr()
    assert "Downloading CIFAR-10" in printed.err
    assert printed.out == ""


def test_another_file_is_refused(tmp_path, monkeypatch):
    with pytest.raises(RunError, match=r"not the official .*has 5 bytes, SHA-256 d9"):
        fetch(monkeypatch, tmp_path, b"other")
    assert archives.find(tmp_path) is None


@pytest.mark.usefixtures("expected")
def test_an_endless_response_does_not_fill_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_BLOCK_BYTES", 1000)
    with pytest.raises(RunError, match="not the official archive"):
        fetch(monkeypatch, tmp_path, ARCHIVE + bytes(100_000))
    (partial,) = tmp_path.iterdir()
    assert partial.stat().st_size <= len(ARCHIVE) + 1000


@pytest.mark.usefixtures("expected")
def test_anything_named_like_the_partial_file_is_replaced(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / f"{archives.BINARY.archive}.partial")
    assert fetch(monkeypatch, tmp_path, ARCHIVE).read_bytes() == ARCHIVE


@pytest.mark.usefixtures("expected")
def test_an_interrupted_download_is_reported_and_can_be_repeated(tmp_path, monkeypatch):
    with pytest.raises(RunError, match=r"download of .* failed"):
        fetch(monkeypatch, tmp_path, ARCHIVE[:1000], length=len(ARCHIVE))
    assert archives.find(tmp_path) is None
    assert fetch(monkeypatch, tmp_path, ARCHIVE).read_bytes() == ARCHIVE


def test_an_error_status_of_the_server_is_reported(tmp_path, monkeypatch):
    with pytest.raises(RunError, match=r"failed .*503"):
        fetch(monkeypatch, tmp_path, b"", status=503)


def test_a_server_that_stalls_halfway_times_out(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUTS_SECS", (5, 0.2))
    with pytest.raises(RunError, match=r"failed .*[Tt]imed? ?out"):
        fetch(monkeypatch, tmp_path, ARCHIVE[:1000], length=10**6, stall=True)
    assert archives.find(tmp_path) is None


def test_a_server_that_never_answers_times_out(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUTS_SECS", (0.2, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setattr(download, "URL", f"http://127.0.0.1:{port}/archive")
        with pytest.raises(RunError, match=r"failed .*[Tt]imed? ?out"):
            download.fetch_archive(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(OSError, match=os.strerror(2)):
        fetch(monkeypatch, tmp_path / "missing", ARCHIVE)


def test_the_checksum_is_the_published_one():
    assert download.BYTES == 170_052_171
    assert download.SHA256 == (
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
    )


def test_a_silent_server_is_unreachable(monkeypatch):
    monkeypatch.setattr(cifar10, "_SECONDS_TO_ANSWER", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert cifar10.why_unreachable(f"http://127.0.0.1:{port}/") is not None


def test_a_silent_name_server_is_unreachable(monkeypatch):
    monkeypatch.setattr(cifar10, "_SECONDS_TO_ANSWER", 0.01)
    # The deadline holds no matter what blocks inside the request.
    released = cifar10.threading.Event()
    monkeypatch.setattr(
        cifar10.urllib.request, "urlopen", lambda *_, **__: released.wait(60)
    )
    assert "no answer within" in cifar10.why_unreachable("http://nowhere.invalid/")
    released.set()


@pytest.mark.parametrize("status", [403, 404, 500])
def test_error_status_counts_as_unreachable(status):
    with small_cifar.served(b"", status=status) as url:
        assert str(status) in cifar10.why_unreachable(url)


def test_answering_server_is_reachable():
    with small_cifar.served(b"data") as url:
        assert cifar10.why_unreachable(url) is None
