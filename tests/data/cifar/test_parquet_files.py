"""Tests the files of Hugging Face, made small by pyarrow."""

import io
import sys

import numpy as np
import pytest
import small_cifar
from PIL import Image

from cifar_jax.data.cifar import parquet_files
from cifar_jax.errors import UserError

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def encoded(image, file_format="PNG"):
    file = io.BytesIO()
    Image.fromarray(image).save(file, file_format)
    return {"bytes": file.getvalue(), "path": None}


def write(folder, published, pieces=1, encode=encoded, rows=None):
    """Writes both splits, each in pieces."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = range(len(published.labels))
    splits = zip(*(small_cifar.splits(published, kind) for kind in kinds), strict=True)
    for name, of_kinds in zip(("train", "test"), splits, strict=True):
        images = [encode(image) for image in of_kinds[0].images[:rows]]
        table = {"img": images} | {
            kind.key[:-1]: split.labels[:rows]
            for kind, split in zip(published.labels, of_kinds, strict=True)
        }
        whole = pyarrow.table(table)
        size = -(-len(images) // pieces)
        for piece in range(pieces):
            path = folder / f"{name}-{piece:05}-of-{pieces:05}.parquet"
            parquet.write_table(whole.slice(piece * size, size), path)
    return folder


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("place", [".", "plain_text"])
def test_images_are_the_official_ones(tmp_path, published, pieces, place):
    folder = write(tmp_path / place, published, pieces)
    assert parquet_files.find(tmp_path) == folder
    records = parquet_files.read(published, folder)
    for kind in range(len(published.labels)):
        expected = small_cifar.splits(published, kind)
        for own, split in zip(records, expected, strict=True):
            np.testing.assert_array_equal(own.images, split.images)
            np.testing.assert_array_equal(own.labels[:, kind], split.labels)


def test_the_other_data_set_is_not_read(tmp_path):
    folder = write(tmp_path, small_cifar.CIFAR10)
    with pytest.raises(UserError, match="has no column coarse_label and no fine_label"):
        parquet_files.read(small_cifar.CIFAR100, folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 7}, "there are 7 images in train-00000"),
        ({"encode": lambda image: encoded(image[:9])}, r"an image is RGB \(32, 9\)"),
        ({"encode": lambda image: encoded(image, "BMP")}, "cannot identify"),
        ({"encode": lambda image: {"bytes": b"", "path": "x.png"}}, "cannot identify"),
    ],
)
def test_other_images_are_refused(tmp_path, changes, message):
    folder = write(tmp_path, small_cifar.CIFAR10, **changes)
    with pytest.raises(UserError, match=message) as caught:
        parquet_files.read(small_cifar.CIFAR10, folder)
    assert "\n" not in str(caught.value)


def test_damaged_files_are_refused(tmp_path):
    folder = write(tmp_path, small_cifar.CIFAR10)
    path = folder / "test-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="cannot be read as CIFAR-10"):
        parquet_files.read(small_cifar.CIFAR10, folder)


def test_without_pyarrow_the_way_out_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'cifar-jax\[parquet\]'"):
        parquet_files.read(small_cifar.CIFAR10, tmp_path)
