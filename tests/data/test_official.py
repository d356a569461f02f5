"""Tests that the pixels alone, not their packaging, decide which data are official."""

import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import small_cifar
from test_tfds_builder import write_tfds_cifar10

from cifar_jax.data import archives, load

pytestmark = pytest.mark.usefixtures("small_batches")

UNPACK = Path(__file__).parents[3] / "shared/cifar10/unpack.py"


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("kind", small_cifar.LAYOUTS)
@pytest.mark.parametrize("packed", [True, False])
def test_official_pixels_are_recognized_in_every_layout(tmp_path, kind, packed):
    if packed:
        small_cifar.write_archive(tmp_path, kind)
    else:
        small_cifar.write_folder(tmp_path, small_cifar.files(kind))
    found = load("cifar10", tmp_path)
    assert found.official
    assert found.notice is None
    assert found.source.startswith(f"official CIFAR-10, from {tmp_path}")


@pytest.mark.usefixtures("official")
def test_data_prepared_by_tfds_itself_are_official_too(tmp_path):
    write_tfds_cifar10(tmp_path)
    assert load("cifar10", tmp_path).official


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
def test_unofficial_data_are_reported_with_the_reason(tmp_path, change, reason):
    arrays = small_cifar.arrays()
    pixels, labels = arrays["data_batch_3"]
    if change == "a pixel":
        pixels[7, 1000] ^= 1
    elif change == "a label":
        labels[7] = (labels[7] + 1) % 10
    elif change == "the order":
        arrays["data_batch_3"] = pixels[::-1], labels[::-1]
    else:
        arrays["data_batch_3"] = arrays["test_batch"]
        arrays["test_batch"] = pixels, labels
    contents = {
        f"{batch}.bin": small_cifar.binary_file(*pair) for batch, pair in arrays.items()
    }
    small_cifar.write_archive(tmp_path, contents=contents)
    found = load("cifar10", tmp_path)
    assert not found.official
    assert f"is not the official CIFAR-10: it has {reason}." in found.notice


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
    monkeypatch.setattr(archives, "RECORDS_PER_BATCH", 10_000)
    layout = small_cifar.LAYOUTS[kind]
    found = load("cifar10", tmp_path)
    assert found.notice is None
    assert found.source == f"official CIFAR-10, from {tmp_path / layout.archive}"
    assert np.bincount(found.train.labels).tolist() == [5_000] * 10
    assert np.bincount(found.test.labels).tolist() == [1_000] * 10

    unpacked = tmp_path / "unpacked"
    with tarfile.open(tmp_path / layout.archive) as archive:
        archive.extractall(unpacked, filter="data")
    assert load("cifar10", unpacked).official
    repacked = tmp_path / "repacked"
    repacked.mkdir()
    with tarfile.open(repacked / layout.archive, "w:gz", compresslevel=1) as archive:
        archive.add(unpacked / layout.folder, layout.folder)
    assert load("cifar10", repacked).official


@pytest.mark.slow
@pytest.mark.skipif(not UNPACK.exists(), reason="../shared is not there")
@pytest.mark.parametrize("swap", [False, True])
def test_a_change_to_the_official_pixels_is_reported(tmp_path, monkeypatch, swap):
    subprocess.run([sys.executable, UNPACK, tmp_path], check=True, capture_output=True)
    monkeypatch.setattr(archives, "RECORDS_PER_BATCH", 10_000)
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "cifar-10-binary.tar.gz").unlink()
    file = tmp_path / "cifar-10-batches-bin" / "data_batch_5.bin"
    records = np.fromfile(file, np.uint8).reshape(-1, 3073)
    if swap:
        records[[0, 1]] = records[[1, 0]]
    else:
        records[0, 5] ^= 1
    records.tofile(file)
    found = load("cifar10", tmp_path)
    reason = "the same pixels in another order" if swap else "other pixels"
    assert f"it has {reason}." in found.notice
