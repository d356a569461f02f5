"""Tests the readers of CIFAR-10.1 and CIFAR-10-C on small files of their layout."""

import dataclasses
import importlib.util
import os
import pathlib
import re
import socket
import tarfile

import numpy as np
import pytest
import robustness_files as files
import small_cifar

from cifar_jax.data.cifar import download, robustness
from cifar_jax.data.split import fingerprint
from cifar_jax.errors import RunError, UserError

IMAGES, LABELS = files.NAMES


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    files.expect_few_images(monkeypatch)
    monkeypatch.setattr(download, "why_unreachable", lambda url: "no network here")


@pytest.fixture(params=["folder", "archive"])
def corrupted_dir(request, tmp_path):
    """Returns a data_dir with CIFAR-10-C as a folder or as an archive."""
    {"folder": files.write_folder, "archive": files.write_archive}[request.param](
        tmp_path
    )
    return tmp_path


def test_cifar10_1_is_read_and_is_not_the_official_one(tmp_path):
    files.write_cifar10_1(tmp_path)
    found = robustness.load_cifar10_1(tmp_path)
    expected = files.cifar10_1()
    np.testing.assert_array_equal(found.split.images, expected[IMAGES])
    np.testing.assert_array_equal(found.split.labels, expected[LABELS])
    assert found.split.labels.dtype == np.int32
    assert found.source == f"CIFAR-10.1 v6, from {tmp_path}"
    assert found.fingerprint == fingerprint(found.split)
    assert "are not the official CIFAR-10.1 v6" in found.notice
    assert found.fingerprint[:16] in found.notice


def publish(monkeypatch, data_dir, url):
    """Makes small files count as the published CIFAR-10.1, at an address."""
    published = [
        dataclasses.replace(
            file, url=url, **small_cifar.described((data_dir / file.name).read_bytes())
        )
        for file in robustness.CIFAR10_1
    ]
    monkeypatch.setattr(robustness, "CIFAR10_1", tuple(published))


def test_the_checksums_of_the_files_decide_whether_they_are_official(
    tmp_path, monkeypatch
):
    files.write_cifar10_1(tmp_path)
    publish(monkeypatch, tmp_path, "")
    found = robustness.load_cifar10_1(tmp_path)
    assert found.notice is None
    assert found.source == f"official CIFAR-10.1 v6, from {tmp_path}"


def test_every_severity_of_every_corruption_is_read(corrupted_dir):
    found = robustness.open_cifar10_c(corrupted_dir)
    assert len(found) == files.IMAGES
    arrays = files.cifar10_c()
    assert list(robustness.CORRUPTIONS) == files.CORRUPTIONS
    for name in files.CORRUPTIONS:
        for severity in range(1, 6):
            split = found.split(name, severity, files.IMAGES)
            part = slice(files.IMAGES * (severity - 1), files.IMAGES * severity)
            np.testing.assert_array_equal(split.images, arrays[name][part])
            np.testing.assert_array_equal(split.labels, arrays["labels"][part])
            first = found.split(name, severity, 2)
            np.testing.assert_array_equal(first.images, split.images[:2])
            np.testing.assert_array_equal(first.labels, split.labels[:2])


def test_an_archive_of_the_real_layout_has_the_published_size(tmp_path, monkeypatch):
    monkeypatch.undo()
    path = tmp_path / "CIFAR-10-C.tar"
    files.write_sparse_archive(path)
    assert path.stat().st_size == robustness.CIFAR10_C.size
    found = robustness.open_cifar10_c(tmp_path)
    assert len(found) == 10_000
    assert found.split("saturate", 5, 2).images.shape == (2, 32, 32, 3)


def test_the_source_is_the_folder_or_the_archive_which_comes_first(tmp_path):
    folder = files.write_folder(tmp_path)
    found = robustness.open_cifar10_c(tmp_path)
    assert found.source == f"CIFAR-10-C, from {folder}"
    archive = files.write_archive(tmp_path)
    found = robustness.open_cifar10_c(tmp_path)
    assert found.source == f"CIFAR-10-C, from {archive}"


def test_the_default_folder_is_that_of_cifar10(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    files.write_cifar10_1(tmp_path)
    assert str(tmp_path) in robustness.load_cifar10_1(None).source


def test_opening_cifar10_c_reads_no_images(corrupted_dir):
    peak = small_cifar.peak_bytes(robustness.open_cifar10_c, corrupted_dir)
    of_one_corruption = 5 * files.IMAGES * 3072
    assert peak < 5 * of_one_corruption  # not 19 times


def damages():
    """Returns the damaged contents of each file, and words of the message."""
    whole = files.cifar10_1()
    pixels, labels = whole[IMAGES], whole[LABELS]
    wrong = np.where(np.arange(files.IMAGES) == 3, 10, labels)
    return {
        "floats": (IMAGES, pixels.astype(float), "it has float64"),
        "signed": (IMAGES, pixels.astype(np.int8), "it has int8"),
        "too few": (IMAGES, pixels[1:], r"it has uint8 \(5, 32, 32, 3\), not"),
        "flat": (IMAGES, pixels.reshape(files.IMAGES, -1), r"\(6, 3072\), not"),
        "by columns": (IMAGES, np.asfortranarray(pixels), "row-major"),
        "objects": (LABELS, np.array([{"a": 1}] * files.IMAGES, object), "bytes, not"),
        "label 10": (LABELS, wrong, "range from . to 10, not 0-9"),
        "label -1": (LABELS, labels - 11, "labels range from -"),
        "large labels": (LABELS, np.full(6, 2**64 - 1, np.uint64), "18446744073709"),
        "float labels": (LABELS, labels.astype(float), "not integers"),
        "columns": (LABELS, labels[:, None], r"\(6, 1\), not integers \(6,\)"),
        "truncated": (IMAGES, files.npy(pixels)[:-1], "it has 18,559 bytes, not"),
        "longer": (IMAGES, files.npy(pixels) + b"x", "it has 18,561 bytes, not"),
        "header only": (IMAGES, files.npy(pixels)[:128], "it has 128 bytes, not"),
        "half a header": (IMAGES, files.npy(pixels)[:60], "EOF"),
        "empty": (IMAGES, b"", "EOF"),
        "text": (IMAGES, b"<!DOCTYPE html><html>", "magic string"),
        "pickle": (LABELS, b"\x80\x04" + bytes(100), "magic string"),
        "format 3": (IMAGES, b"\x93NUMPY\x03\x00" + bytes(100), r"format is \(3, 0\)"),
        "expression": (
            IMAGES,
            b"\x93NUMPY\x01\x00\x40\x00" + b"__import__('os').getcwd()".ljust(64),
            "malformed node",
        ),
    }


@pytest.mark.parametrize("damage", damages())
def test_damaged_files_of_cifar10_1_are_refused(tmp_path, damage):
    files.write_cifar10_1(tmp_path)
    name, contents, words = damages()[damage]
    if isinstance(contents, np.ndarray):
        contents = files.npy(contents)
    (tmp_path / name).write_bytes(contents)
    with pytest.raises(UserError, match=words) as caught:
        robustness.load_cifar10_1(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name} cannot be read as CIFAR-10.1: ")
    assert f"get a fresh copy of {name} from https://github.com/" in message


@pytest.mark.parametrize("make", small_cifar.NO_FILES)
@pytest.mark.parametrize("name", files.NAMES)
def test_only_regular_files_of_cifar10_1_are_opened(tmp_path, name, make):
    files.write_cifar10_1(tmp_path)
    (tmp_path / name).unlink()
    make(tmp_path / name)
    with pytest.raises(UserError, match=f"{re.escape(name)} cannot be read as"):
        robustness.load_cifar10_1(tmp_path)


@pytest.mark.parametrize("make", small_cifar.NO_FILES)
def test_only_regular_files_of_a_folder_are_opened(tmp_path, make):
    folder = files.write_folder(tmp_path)
    (folder / "fog.npy").unlink()
    make(folder / "fog.npy")
    with pytest.raises(UserError, match=r"CIFAR-10-C/fog\.npy cannot be read as"):
        robustness.open_cifar10_c(tmp_path)


@pytest.mark.parametrize("name", ["CIFAR-10-C", "CIFAR-10-C.tar"])
def test_a_fifo_in_place_of_cifar10_c_is_not_opened(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="it is not a regular file; get a fresh copy"):
        robustness.open_cifar10_c(tmp_path)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("fog", np.zeros((30, 32, 32, 3), np.int16), "it has int16"),
        ("saturate", np.zeros((29, 32, 32, 3), np.uint8), "not uint8"),
        ("labels", np.zeros(6, np.uint8), r"uint8 \(6,\), not integers \(30,\)"),
        ("labels", np.full(30, 10, np.uint8), "range from 10 to 10"),
    ],
)
def test_damaged_files_of_cifar10_c_are_refused(tmp_path, name, array, words):
    folder = files.write_folder(tmp_path)
    np.save(folder / f"{name}.npy", array)
    with pytest.raises(UserError, match=words) as caught:
        robustness.open_cifar10_c(tmp_path)
    assert f"{folder}/{name}.npy cannot be read as CIFAR-10-C" in str(caught.value)
    assert "CIFAR-10-C.tar from https://zenodo.org/" in str(caught.value)


def test_missing_corruptions_are_named(tmp_path):
    folder = files.write_folder(tmp_path)
    for name in ("spatter", "fog", "labels"):
        (folder / f"{name}.npy").unlink()
    with pytest.raises(UserError, match=r"has no fog\.npy, spatter\.npy, labels\.npy;"):
        robustness.open_cifar10_c(tmp_path)


@pytest.mark.parametrize("kept", [100, 10_000, 1_000_000])
def test_a_truncated_archive_is_refused(tmp_path, kept):
    path = files.write_archive(tmp_path)
    os.truncate(path, kept)
    with pytest.raises(UserError, match=r"CIFAR-10-C\.tar.* cannot be read as"):
        robustness.open_cifar10_c(tmp_path)


def test_links_and_other_folders_in_an_archive_are_not_followed(tmp_path):
    with tarfile.open(tmp_path / "CIFAR-10-C.tar", "w") as archive:
        link = tarfile.TarInfo("CIFAR-10-C/fog.npy")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        for name in ("snow.npy", "../CIFAR-10-C/snow.npy", "/CIFAR-10-C/snow.npy"):
            files.add_member(archive, name, b"")
    with pytest.raises(UserError, match=r"has no .*snow\.npy.*fog\.npy.*labels\.npy;"):
        robustness.open_cifar10_c(tmp_path)


def test_a_file_that_is_cut_off_during_the_evaluation_is_reported(corrupted_dir):
    found = robustness.open_cifar10_c(corrupted_dir)
    os.truncate(found.pixels["fog"].path, 1_000)
    with pytest.raises(UserError, match="it ends too early; get a fresh copy"):
        found.split("fog", 5, files.IMAGES)


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (
            robustness.load_cifar10_1,
            r"CIFAR-10\.1 is not in .*put cifar10\.1_v6_data\.npy and "
            r"cifar10\.1_v6_labels\.npy \(from https://github",
        ),
        (
            robustness.open_cifar10_c,
            r"CIFAR-10-C is not in .*put CIFAR-10-C\.tar \(from https://zenodo",
        ),
    ],
)
def test_without_a_network_the_message_says_what_to_put_where(tmp_path, load, words):
    with pytest.raises(UserError, match=words) as caught:
        load(tmp_path / "missing")
    assert "(no network here)" in str(caught.value)
    assert str(tmp_path / "missing") in str(caught.value)
    assert not (tmp_path / "missing").exists()


def test_a_data_dir_that_cannot_be_searched_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"--data_dir=.* cannot be read"):
        robustness.load_cifar10_1(tmp_path / ("x" * 300))


def test_cifar10_c_is_downloaded_once(tmp_path, monkeypatch):
    (tmp_path / "server").mkdir()
    archive = files.write_archive(tmp_path / "server").read_bytes()
    monkeypatch.setattr(download, "why_unreachable", lambda url: None)
    with small_cifar.served(archive) as url:
        published = dataclasses.replace(
            robustness.CIFAR10_C, url=url, **small_cifar.described(archive)
        )
        monkeypatch.setattr(robustness, "CIFAR10_C", published)
        robustness.open_cifar10_c(tmp_path / "data")
    assert (tmp_path / "data" / "CIFAR-10-C.tar").read_bytes() == archive
    found = robustness.open_cifar10_c(tmp_path / "data")  # Nothing is served any more.
    assert found.source == f"CIFAR-10-C, from {tmp_path}/data/CIFAR-10-C.tar"


def test_only_the_missing_file_of_cifar10_1_is_downloaded(tmp_path, monkeypatch):
    files.write_cifar10_1(tmp_path)
    monkeypatch.setattr(download, "why_unreachable", lambda url: None)
    labels = (tmp_path / LABELS).read_bytes()
    with small_cifar.served(labels) as url:
        publish(monkeypatch, tmp_path, url)
        (tmp_path / LABELS).unlink()
        assert robustness.load_cifar10_1(tmp_path).notice is None
    assert (tmp_path / LABELS).read_bytes() == labels


def test_a_download_with_another_checksum_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "why_unreachable", lambda url: None)
    with small_cifar.served(b"other") as url:
        other = dataclasses.replace(robustness.CIFAR10_C, url=url)
        monkeypatch.setattr(robustness, "CIFAR10_C", other)
        with pytest.raises(
            RunError, match=r"not the official CIFAR-10-C\.tar of 2,918,471,680 bytes"
        ):
            robustness.open_cifar10_c(tmp_path)
    assert not (tmp_path / "CIFAR-10-C.tar").exists()


def test_without_a_network_the_answer_comes_from_asking_the_server(
    tmp_path, monkeypatch
):
    monkeypatch.undo()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/CIFAR-10-C.tar"
    gone = dataclasses.replace(robustness.CIFAR10_C, url=url)
    monkeypatch.setattr(robustness, "CIFAR10_C", gone)
    with pytest.raises(UserError, match="Connection refused"):
        robustness.open_cifar10_c(tmp_path)


def test_cifar10_1_of_the_real_layout_has_the_published_sizes():
    shapes = (2_000, 32, 32, 3), (2_000,)
    arrays = [np.zeros(shapes[0], np.uint8), np.zeros(shapes[1], np.int32)]
    assert [len(files.npy(array)) for array in arrays] == [
        file.size for file in robustness.CIFAR10_1
    ]


def test_published_sizes_and_checksums_are_those_of_tfds():
    spec = importlib.util.find_spec("tensorflow_datasets")
    if spec is None:
        pytest.skip("TFDS is not installed")
    folder = pathlib.Path(spec.submodule_search_locations[0]) / "url_checksums"
    for name, published in (
        ("cifar10_1", robustness.CIFAR10_1),
        ("cifar10_corrupted", [robustness.CIFAR10_C]),
    ):
        lines = (folder / f"{name}.txt").read_text().splitlines()
        assert {
            f"{file.url}\t{file.size}\t{file.sha256}\t{file.name}" for file in published
        } <= set(lines)
