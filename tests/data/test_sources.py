import os
import socket
import sys

import numpy as np
import pytest
import small_cifar
from test_tfds_builder import expect_archive, write_info, write_tfds_cifar10

from cifar_jax.data import Dataset, archives, load, sources, tfds_builder
from cifar_jax.errors import RunError, UserError

pytestmark = pytest.mark.usefixtures("small_batches")

TRAIN, TEST = 5 * small_cifar.RECORDS, small_cifar.RECORDS


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """The server's address is a closed port of this machine."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    url = f"http://127.0.0.1:{port}/cifar-10-binary.tar.gz"
    monkeypatch.setattr(tfds_builder, "URL", url)


@pytest.fixture
def archive_dir(tmp_path):
    small_cifar.write_archive(tmp_path)
    return tmp_path


def test_unknown_name_lists_the_choices():
    with pytest.raises(UserError, match="auto, cifar10, digits"):
        load("cifar100")


def test_digits_need_no_folder(tmp_path):
    dataset = load("digits", tmp_path / "missing")
    assert dataset.name == "digits"
    assert "stand-in" in dataset.notice


@pytest.mark.parametrize("name", ["auto", "cifar10"])
def test_archive_on_disk_is_read_without_network(archive_dir, name):
    dataset = load(name, archive_dir)
    assert isinstance(dataset, Dataset)
    assert dataset.name == "cifar10"
    assert (len(dataset.train), len(dataset.test)) == (TRAIN, TEST)
    assert dataset.class_names[3] == "cat"
    assert "\n" not in dataset.source
    assert "tensorflow" not in sys.modules


def test_archive_that_is_not_official_is_announced(archive_dir):
    dataset = load("auto", archive_dir)
    assert "not the official archive" in dataset.notice
    assert dataset.fingerprint[:16] in dataset.notice


def test_official_archive_needs_no_notice(archive_dir, monkeypatch):
    monkeypatch.setattr(archives, "_is_official", lambda path, layout: True)
    assert load("auto", archive_dir).notice is None


def test_unpacked_folder_is_announced_as_unverified(tmp_path):
    small_cifar.write_folder(tmp_path, small_cifar.files("python"))
    dataset = load("auto", tmp_path)
    assert "cannot be verified" in dataset.source
    assert dataset.fingerprint[:16] in dataset.notice


def test_default_folder_is_that_of_tfds(archive_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(archive_dir))
    assert str(archive_dir) in load("auto").source
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(archive_dir))
    (archive_dir / "tensorflow_datasets").symlink_to(archive_dir)
    assert "tensorflow_datasets" in load("auto").source


def test_what_tfds_prepared_goes_before_an_archive(tmp_path):
    folder = write_tfds_cifar10(tmp_path)
    theirs = load("auto", tmp_path)
    assert str(folder) in theirs.source
    assert theirs.notice is None
    small_cifar.write_archive(tmp_path, "matlab")
    assert load("auto", tmp_path).source == theirs.source


@pytest.mark.parametrize("name", ["auto", "cifar10"])
def test_download_once_and_the_same_images_as_the_archive(tmp_path, monkeypatch, name):
    data_dir = tmp_path / "made/by/us"
    archive = small_cifar.archive_bytes("binary", small_cifar.files("binary"))
    with small_cifar.served(archive) as url:
        expect_archive(monkeypatch, url, archive)
        downloaded = load(name, data_dir)
    again = load(name, data_dir)  # the server is gone
    small_cifar.write_archive(tmp_path, "python")
    from_archive = load(name, tmp_path)
    assert downloaded.notice is None
    assert downloaded.fingerprint == again.fingerprint == from_archive.fingerprint
    np.testing.assert_array_equal(downloaded.train.images, again.train.images)


@pytest.mark.parametrize("name", ["auto", "cifar10"])
def test_download_that_fails_halfway_is_no_reason_for_the_stand_in(
    tmp_path, monkeypatch, name
):
    with small_cifar.served(b"other") as url:
        expect_archive(monkeypatch, url, b"archive")
        with pytest.raises(RunError, match="not the official archive"):
            load(name, tmp_path)


def test_auto_without_data_or_network_is_the_stand_in(tmp_path):
    data_dir = tmp_path / "missing"
    dataset = load("auto", data_dir)
    assert dataset.name == "digits"
    for words in (str(data_dir), "refused", "--data_dir", archives.HOME_PAGE):
        assert words in dataset.notice
    assert not data_dir.exists()


def test_cifar10_without_data_or_network_is_an_error(tmp_path):
    with pytest.raises(UserError, match="refused") as caught:
        load("cifar10", tmp_path)
    for words in (str(tmp_path), "--data_dir", archives.HOME_PAGE):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_tfrecords_are_mentioned(tmp_path):
    write_info(tmp_path, "3.0.2", "{}")
    assert "passed over" in load("auto", tmp_path).notice


@pytest.mark.parametrize("name", ["auto", "cifar10"])
def test_damaged_archive_is_an_error(archive_dir, name):
    path = archive_dir / "cifar-10-binary.tar.gz"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match="cannot be read"):
        load(name, archive_dir)


@pytest.mark.parametrize("name", ["auto", "cifar10"])
def test_damaged_preparation_is_an_error(archive_dir, name):
    tfds_builder.prepared_folder(archive_dir).mkdir(parents=True)
    with pytest.raises(UserError, match="delete that folder"):
        load(name, archive_dir)


def test_data_dir_that_is_a_file_is_an_error(archive_dir):
    with pytest.raises(UserError, match="is a file"):
        load("auto", archive_dir / "cifar-10-binary.tar.gz")


def test_data_dir_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        load("auto", tmp_path / ("long" * 100))


def test_silent_server_is_given_up(monkeypatch):
    monkeypatch.setattr(sources, "_SECONDS_TO_ANSWER", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert sources.why_unreachable(f"http://127.0.0.1:{port}/") is not None


def test_silent_name_server_is_given_up(monkeypatch):
    monkeypatch.setattr(sources, "_SECONDS_TO_ANSWER", 0.01)
    # Whatever blocks inside the request, the deadline holds.
    released = sources.threading.Event()
    monkeypatch.setattr(
        sources.urllib.request, "urlopen", lambda *_, **__: released.wait(60)
    )
    assert "no answer within" in sources.why_unreachable("http://nowhere.invalid/")
    released.set()


@pytest.mark.parametrize("status", [403, 404, 500])
def test_error_status_counts_as_unreachable(status):
    with small_cifar.served(b"", status=status) as url:
        assert str(status) in sources.why_unreachable(url)


def test_answering_server_is_reachable():
    with small_cifar.served(b"data") as url:
        assert sources.why_unreachable(url) is None


def test_validation_holds_out_the_last_training_images(archive_dir):
    whole = load("auto", archive_dir)
    dataset = load("auto", archive_dir, validation_size=30)
    np.testing.assert_array_equal(
        dataset.split("train_eval").images, whole.train.images[:-30]
    )
    np.testing.assert_array_equal(
        dataset.split("validation").images, whole.train.images[-30:]
    )
    np.testing.assert_array_equal(
        dataset.split("validation").labels, whole.train.labels[-30:]
    )
    assert dataset.split("test") is dataset.test
    assert len(dataset.train) == TRAIN - 30
    assert dataset.fingerprint == whole.fingerprint


@pytest.mark.parametrize("size", [-1, TRAIN, TRAIN + 1])
def test_impossible_validation_size_is_an_error(archive_dir, size):
    with pytest.raises(UserError, match=f"--validation_size={size}"):
        load("auto", archive_dir, validation_size=size)


def test_split_names(archive_dir):
    dataset = load("auto", archive_dir)
    assert dataset.split("train_eval") is dataset.train
    with pytest.raises(UserError, match="--validation_size"):
        dataset.split("validation")
    with pytest.raises(UserError, match="train_eval or validation"):
        dataset.split("train")
