import dataclasses
import errno
import hashlib
import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import small_cifar
from tfds_files import write_info, write_tfds

from cifar_jax.data import Dataset, load
from cifar_jax.data.cifar import cifar10, download, tfds_builder
from cifar_jax.data.cifar.published import HOME_PAGE
from cifar_jax.errors import RunError, UserError

pytestmark = pytest.mark.usefixtures("small_batches")

BINARY = small_cifar.CIFAR10.binary
[MIRROR] = cifar10.CIFAR10.mirrors
TRAIN, TEST = 5 * small_cifar.RECORDS, small_cifar.RECORDS


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Replaces the server's address by a closed port of this machine."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    small_cifar.change(monkeypatch, url=f"http://127.0.0.1:{port}/archive.tar.gz")


@pytest.fixture
def archive_dir(tmp_path):
    small_cifar.write_archive(tmp_path)
    return tmp_path


@pytest.mark.wrong_types
@pytest.mark.parametrize("name", ["cifar1000", None, ["auto"], np.array(["auto", ""])])
def test_unknown_name_lists_the_choices(name):
    with pytest.raises(UserError, match="auto, cifar10, cifar100, digits"):
        load(name)


@pytest.mark.parametrize(
    "place",
    [
        *(
            "work/data/ARCHIVE",
            "work/data/cifar/ARCHIVE",
            "home/.keras/datasets/FOLDER",
        ),
        "home/.keras/datasets/FOLDER-target/FOLDER",
    ],
)
def test_what_others_have_downloaded_is_found(place, tmp_path, monkeypatch):
    for name in ("work", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("TFDS_DATA_DIR", "KERAS_HOME"):
        monkeypatch.delenv(name, raising=False)
    layout = small_cifar.layout("python")
    if place.endswith("ARCHIVE"):
        folder = (tmp_path / place).parent
        folder.mkdir(parents=True)
        path = small_cifar.write_archive(folder, "python")
    else:
        path = tmp_path / place.replace("FOLDER", layout.folder)
        small_cifar.write_folder(path, small_cifar.files("python"))
    dataset = load("auto")
    assert (len(dataset.train), len(dataset.test)) == (TRAIN, TEST)
    assert dataset.source.endswith(str(path.relative_to(tmp_path / place[:4])))
    # Who names a directory means that one.
    assert load("auto", tmp_path / "other").name == "digits"
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "other"))
    assert load("auto").name == "digits"
    # A damaged copy that nobody asked for is no error.
    monkeypatch.delenv("TFDS_DATA_DIR")
    damaged = path if path.is_file() else path / "test_batch"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    assert load("auto").name == "digits"


@pytest.mark.parametrize("inner", ["", "3.0.2"])
def test_the_folder_of_a_prepared_data_set_may_be_given(tmp_path, inner):
    folder = write_tfds(tmp_path).parent
    assert folder.name == "cifar10"
    dataset = load("cifar10", folder / inner)
    assert (len(dataset.train), len(dataset.test)) == (TRAIN, TEST)


def test_a_folder_that_is_only_called_like_it_is_itself(tmp_path):
    folder = tmp_path / "cifar10"
    folder.mkdir()
    small_cifar.write_archive(folder)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"another")
    assert len(load("cifar10", folder).train) == TRAIN


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


def test_other_pixels_are_announced_once(archive_dir):
    found = load("auto", archive_dir)
    assert not found.official
    assert "is not the official CIFAR-10: it has other pixels" in found.notice
    assert found.fingerprint[:16] in found.notice
    assert found.source == f"CIFAR-10, from {archive_dir / BINARY.archive}"


def test_default_folder_is_that_of_tfds(archive_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(archive_dir))
    assert str(archive_dir) in load("auto").source
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(archive_dir))
    (archive_dir / "tensorflow_datasets").symlink_to(archive_dir)
    assert "tensorflow_datasets" in load("auto").source


def test_data_prepared_by_tfds_take_precedence_over_an_archive(tmp_path):
    folder = write_tfds(tmp_path)
    theirs = load("auto", tmp_path)
    assert str(folder) in theirs.source
    small_cifar.write_archive(tmp_path, "matlab")
    assert load("auto", tmp_path).source == theirs.source


@pytest.fixture
def server(monkeypatch):
    """Serves the small archive as the official one."""
    archive = small_cifar.archive_bytes("binary", small_cifar.files("binary"))
    sha256 = hashlib.sha256(archive).hexdigest()
    with small_cifar.served(archive) as url:
        small_cifar.change(monkeypatch, size=len(archive), sha256=sha256, url=url)
        yield


@pytest.mark.usefixtures("official", "server")
def test_the_download_happens_once_and_matches_the_archive(tmp_path, monkeypatch):
    data_dir = tmp_path / "made/by/us"
    downloaded = load("cifar10", data_dir)
    folder = tfds_builder.prepared_folder(small_cifar.CIFAR10, data_dir)
    assert downloaded.source == f"official CIFAR-10, from {folder}"
    small_cifar.change(monkeypatch, url="http://nowhere.invalid/")
    again = load("auto", data_dir)
    small_cifar.write_archive(tmp_path, "python")
    from_archive = load("auto", tmp_path)
    assert downloaded.fingerprint == again.fingerprint == from_archive.fingerprint
    np.testing.assert_array_equal(downloaded.train.images, again.train.images)


@pytest.mark.usefixtures("server")
def test_without_array_record_the_archive_is_read_as_it_is(tmp_path, monkeypatch):
    for name in ("array_record", "tensorflow_datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    downloaded = load("cifar10", tmp_path)
    archive = tmp_path / BINARY.archive
    assert downloaded.source == f"CIFAR-10, from {archive}"
    assert not tfds_builder.prepared_folder(small_cifar.CIFAR10, tmp_path).exists()
    assert load("cifar10", tmp_path).source == downloaded.source


@pytest.mark.parametrize("name", ["auto", "cifar10"])
def test_a_failed_download_does_not_lead_to_the_stand_in(tmp_path, monkeypatch, name):
    with small_cifar.served(b"other") as url:
        small_cifar.change(monkeypatch, url=url)
        with pytest.raises(RunError, match="not the official cifar-10-binary"):
            load(name, tmp_path)


@pytest.fixture
def mirror(monkeypatch):
    """Serves the small archive in another layout, as a mirror does."""
    archive = small_cifar.archive_bytes("python", small_cifar.files("python"))
    with small_cifar.served(archive) as url:
        there = dataclasses.replace(MIRROR, url=url, **small_cifar.described(archive))
        yield there


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("failure", [{"status": 503}, {"length": 10**6}])
def test_a_mirror_stands_in_for_the_server(tmp_path, monkeypatch, mirror, failure):
    monkeypatch.setattr(download, "PAUSE_SECS", 0)
    with small_cifar.served(b"half", **failure) as url:
        small_cifar.change(monkeypatch, url=url, mirrors=(mirror,))
        downloaded = load("cifar10", tmp_path)
    assert downloaded.official
    assert str(tfds_builder.prepared_folder(small_cifar.CIFAR10, tmp_path)) in (
        downloaded.source
    )


def test_a_mirror_must_have_the_published_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(download, "PAUSE_SECS", 0)
    with small_cifar.served(b"other") as url:
        mirror = dataclasses.replace(MIRROR, url=f"{url}?mirror")
        small_cifar.change(monkeypatch, url=url, mirrors=(mirror,))
        with pytest.raises(RunError, match=f"{url} is not the official"):
            load("cifar10", tmp_path)
    assert f"trying {mirror.url}" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.gz*"))


@pytest.mark.usefixtures("server")
def test_a_folder_that_cannot_be_created_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--data_dir=.*Not a directory"):
        load("cifar10", tmp_path / "file" / "below")


@pytest.mark.usefixtures("server")
def test_a_full_disk_is_reported(tmp_path, monkeypatch):
    def full(published, data_dir):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(download, "fetch", full)
    with pytest.raises(RunError, match="is full"):
        load("cifar10", tmp_path)


@pytest.mark.usefixtures("server")
def test_a_failed_preparation_is_reported_and_keeps_the_archive(tmp_path, monkeypatch):
    def full(builder, records):
        yield 0, {"image": records.images[0], "label": 0}
        raise RuntimeError("write() failed: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(
            tfds_builder.make_builder_class(cifar10.CIFAR10), "_generate_examples", full
        )
        with pytest.raises(RunError, match=r"could not be prepared .* No space left"):
            load("cifar10", tmp_path)
    archive = tmp_path / BINARY.archive
    assert load("cifar10", tmp_path).source == f"CIFAR-10, from {archive}"


@pytest.mark.usefixtures("server")
def test_names_that_are_not_utf8(tmp_path):
    folder = tmp_path / os.fsdecode(b"data\xff")
    with pytest.raises(UserError, match="is not UTF-8; choose another directory"):
        load("cifar10", folder)
    assert not folder.exists()
    folder.mkdir()
    small_cifar.write_archive(folder)
    assert load("cifar10", folder).source.startswith("CIFAR-10, from ")


def test_auto_without_data_or_network_is_the_stand_in(tmp_path):
    data_dir = tmp_path / "missing"
    dataset = load("auto", data_dir)
    assert dataset.name == "digits"
    for words in (str(data_dir), "refused", "--data_dir", HOME_PAGE):
        assert words in dataset.notice
    assert not data_dir.exists()


def test_cifar10_without_data_or_network_is_an_error(tmp_path):
    with pytest.raises(UserError, match="refused") as caught:
        load("cifar10", tmp_path)
    for words in (str(tmp_path), "--data_dir", HOME_PAGE):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_tfrecords_are_mentioned(tmp_path):
    write_info(tmp_path, "3.0.2", "{}")
    with pytest.raises(UserError, match="was skipped"):
        load("auto", tmp_path)


@pytest.mark.parametrize("name", ["auto", "cifar10"])
def test_damaged_archive_is_an_error(archive_dir, name):
    path = archive_dir / "cifar-10-binary.tar.gz"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match="cannot be read"):
        load(name, archive_dir)


@pytest.mark.parametrize("name", ["auto", "cifar10"])
def test_damaged_preparation_is_an_error(archive_dir, name):
    tfds_builder.prepared_folder(small_cifar.CIFAR10, archive_dir).mkdir(parents=True)
    with pytest.raises(UserError, match="delete that folder"):
        load(name, archive_dir)


def test_data_dir_that_is_a_file_is_an_error(archive_dir):
    with pytest.raises(UserError, match="is a file"):
        load("auto", archive_dir / "cifar-10-binary.tar.gz")


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("data_dir", "reason"),
    [
        ("long" * 100, "File name too long"),
        ("~nobody-of-this-name/data", "home directory"),
        ("nul\0", "null"),
        (3, "not the name of a directory"),
        (0, "not the name of a directory"),
        (b"data", "not the name of a directory"),
    ],
)
def test_data_dir_that_cannot_be_a_folder_is_an_error(data_dir, reason):
    with pytest.raises(UserError, match=rf"--data_dir=(?s:.)*{reason}"):
        load("auto", data_dir)


def test_without_a_home_the_folder_has_to_be_named(monkeypatch):
    for variable in ("HOME", "TFDS_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["nobody"])
    with pytest.raises(UserError, match="--data_dir=~/tensorflow_datasets"):
        load("auto")


@pytest.mark.parametrize("name", ["auto", "cifar10"])
def test_data_dir_without_permission_does_not_lead_to_the_stand_in(
    archive_dir, monkeypatch, name
):
    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    # chmod would not stop root.
    monkeypatch.setattr(Path, "lstat", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\)"):
        load(name, archive_dir)


def test_data_dir_that_is_a_loop_of_links_is_an_error(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError, match="Too many levels of symbolic links"):
        load("cifar10", tmp_path / "loop")


@pytest.mark.wrong_types
@pytest.mark.parametrize("size", [1.5, "10", True, None])
def test_a_validation_size_that_is_not_an_integer_is_an_error(size):
    with pytest.raises(UserError, match=r"validation_size=.* must be an integer"):
        load("digits", validation_size=size)


def test_validation_holds_out_the_last_training_images(archive_dir):
    whole = load("auto", archive_dir)
    held_out = load("auto", archive_dir, validation_size=30)
    np.testing.assert_array_equal(
        held_out.split("train_eval").images, whole.train.images[:-30]
    )
    np.testing.assert_array_equal(
        held_out.split("validation").images, whole.train.images[-30:]
    )
    np.testing.assert_array_equal(
        held_out.split("validation").labels, whole.train.labels[-30:]
    )
    assert held_out.split("test") is held_out.test
    assert len(held_out.train) == TRAIN - 30
    assert held_out.fingerprint == whole.fingerprint


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
