import io
import os

import numpy as np
import pytest
from PIL import Image

from cifar_jax import UserError, read_picture
from cifar_jax.data.folder import picture_files, pictures

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
SHAPE = (8, 8, 3)


def contents(format_="JPEG"):
    file = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(file, format_)
    return file.getvalue()


@pytest.mark.parametrize(
    "name",
    ["1.jpg_large", "1.image", "1.bin", "1.jpg~", "1.bak", "26.11.2026", "1.JFIF"],
)
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM"])
def test_files_with_unknown_endings_are_looked_into(tmp_path, name, format_):
    (tmp_path / name).write_bytes(contents(format_))
    assert picture_files.is_picture(tmp_path / name)
    assert pictures.find(str(tmp_path)) == [str(tmp_path / name)]
    (read_picture(tmp_path / name, SHAPE) == [255, 0, 0]).all()


@pytest.mark.parametrize(
    "content",
    [b"", b"text", bytes(4000), b"\0\0\2\2\2", b"P5 text", b"BM", b"\0\0\1\0"],
)
def test_unknown_files_that_are_no_pictures(tmp_path, content):
    (tmp_path / "1.bin").write_bytes(content)
    assert not picture_files.is_picture(tmp_path / "1.bin")


@pytest.mark.parametrize(
    "name",
    ["1.txt", "1.csv", "Thumbs.db", "1.pdf", "1.mp4", "1.json", ".x.png", "1.PY"],
)
def test_names_of_other_files_are_enough(tmp_path, name):
    (tmp_path / name).write_bytes(contents())
    assert not picture_files.is_picture(tmp_path / name)


@pytest.mark.parametrize("name", ["1.png", "1.JPG", "1", "1.heic", "1.dng", "1.svg"])
def test_names_of_pictures_are_enough(tmp_path, name):
    (tmp_path / name).touch()
    assert picture_files.is_picture(tmp_path / name)


def test_what_could_block_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "1.fifo")
    assert not picture_files.is_picture(tmp_path / "1.fifo")


def test_a_damaged_file_of_unknown_ending_is_a_picture(tmp_path):
    (tmp_path / "1.image").write_bytes(contents("PNG")[:40])
    assert picture_files.is_picture(tmp_path / "1.image")


@pytest.mark.parametrize("name", ["1.heic", "1.HEIF", "1.jpg", "1.image", "1"])
def test_heic_says_what_it_needs(tmp_path, name, monkeypatch):
    monkeypatch.setattr(picture_files, "HAS_HEIF", False)
    (tmp_path / name).write_bytes(HEIC)
    assert picture_files.is_picture(tmp_path / name)
    message = r"needs pillow-heif \(pip install 'cifar-jax\[heif\]'\)"
    with pytest.raises(UserError, match=message):
        read_picture(tmp_path / name, SHAPE)


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path):
    pytest.importorskip("pillow_heif")
    for name in ("1.heic", "2.jpg", "3.image"):
        Image.new("RGB", (64, 48), (200, 30, 40)).save(tmp_path / name, "HEIF")
        assert picture_files.is_picture(tmp_path / name)
        found = read_picture(tmp_path / name, SHAPE).astype(int)
        assert np.abs(found - [200, 30, 40]).max() < 8


@pytest.mark.parametrize("name", ["1.nef", "1.DNG", "1.CR2", "1.svg"])
def test_kinds_of_which_pillow_reads_nothing_or_a_preview(tmp_path, name):
    (tmp_path / name).write_bytes(contents("TIFF"))
    with pytest.raises(UserError, match=r"cannot be read by Pillow \(convert"):
        read_picture(tmp_path / name, SHAPE)
