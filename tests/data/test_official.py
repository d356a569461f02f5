"""Tests that the pixels alone, not their packaging, decide which data are official."""

import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import small_cifar
from tfds_files import write_tfds

from cifar_jax.data import load
from cifar_jax.data.cifar import cifar10

pytestmark = pytest.mark.usefixtures("small_batches")

CIFAR10 = cifar10.CIFAR10  # in full, before the fixtures change it
UNPACK = Path(__file__).parents[3] / "shared/cifar10/unpack.py"


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("kind", small_cifar.KINDS)
@pytest.mark.parametrize("packed", [True, False])
def test_official_pixels_are_recognized_in_every_layout(
    tmp_path, published, kind, packed
):
    if packed:
        small_cifar.write_archive(tmp_path, kind, published=published)
    else:
        contents = small_cifar.files(kind, published=published)
        small_cifar.write_folder(tmp_path, contents)
    found = load(published.name, tmp_path)
    assert found.official
    assert found.notice is None
    assert found.source.startswith(f"official {published.title}, from {tmp_path}")


@pytest.mark.usefixtures("official")
def test_data_prepared_by_tfds_itself_are_official_too(tmp_path, published):
    write_tfds(tmp_path, published)
    assert load(published.name, tmp_path).official


@pytest.mark.usefixtures("official")
def test_held_out_images_leave_the_data_official(tmp_path, published):
    small_cifar.write_archive(tmp_path, published=published)
    assert load(published.name, tmp_path, validation_size=5).official


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("a pixel", "other pixels"),
        ("a label", "other pixels"),
        ("the order", "the same pixels in another order"),
        ("the split", "other pixels"),
    ],
)
def test_unofficial_data_are_reported_with_the_reason(
    tmp_path, published, change, reason
):
    arrays = small_cifar.arrays(published=published)
    train, test = published.train[-1].stem, published.test[0].stem
    pixels, labels = arrays[train]
    if change == "a pixel":
        pixels[7, 1000] ^= 1
    elif change == "a label":
        labels[7, 0] = (labels[7, 0] + 1) % 10
    elif change == "the order":
        arrays[train] = pixels[::-1], labels[::-1]
    else:
        arrays[train] = arrays[test]
        arrays[test] = pixels, labels
    contents = {
        f"{stem}.bin": small_cifar.encode("binary", *pair, published)
        for stem, pair in arrays.items()
    }
    small_cifar.write_archive(tmp_path, "binary", contents, published)
    found = load(published.name, tmp_path)
    assert not found.official
    if published.name == "cifar100":
        reason = "other pixels or labels, or another order"
    assert f"is not the official {published.title}: it has {reason}." in found.notice


def unpack(path: Path, folder: Path) -> None:
    with tarfile.open(path) as archive:
        # Python 3.12 warns without a filter, and before 3.11.4 there was none.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(folder)


@pytest.mark.slow
@pytest.mark.skipif(not UNPACK.exists(), reason="../shared is not there")
@pytest.mark.parametrize("kind", ["binary", "python"])
def test_the_official_pixels_are_recognized_in_every_packaging(
    tmp_path, monkeypatch, kind
):
    subprocess.run(
        [sys.executable, UNPACK, tmp_path, f"--layout={kind}"],
        check=True,
        capture_output=True,
    )
    monkeypatch.setattr(cifar10, "CIFAR10", CIFAR10)
    layout = small_cifar.layout(kind)
    found = load("cifar10", tmp_path)
    assert found.notice is None
    assert found.source == f"official CIFAR-10, from {tmp_path / layout.archive}"
    assert np.bincount(found.train.labels).tolist() == [5_000] * 10
    assert np.bincount(found.test.labels).tolist() == [1_000] * 10

    unpacked = tmp_path / "unpacked"
    unpack(tmp_path / layout.archive, unpacked)
    assert load("cifar10", unpacked).official
    if kind == "binary":
        file = unpacked / layout.folder / "data_batch_5.bin"
        records = np.fromfile(file, np.uint8).reshape(-1, 3073)
        records[[0, 1]] = records[[1, 0]]
        records.tofile(file)
        reason = "it has the same pixels in another order."
        assert reason in load("cifar10", unpacked).notice
