"""Pictures of more than 8 bits: one range for all pictures of a data set."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from cifar_jax import UserError, load_data, read_picture
from cifar_jax.data.folder import deep, pictures

SHAPE = (32, 32, 3)
# As a camera of 16 bits may give: 941 values, of which 8 bits keep at most 256.
SCENE = np.linspace(51241, 52181, 32 * 32).round().reshape(32, 32)
KINDS = {
    "16-bit PNG": ("png", np.uint16),
    "16-bit TIFF": ("tif", np.uint16),
    "32-bit TIFF": ("tif", np.int32),
    "float TIFF": ("tif", np.float32),
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache of its own for each test, outside of its folder."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return cache


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def by_class(data, name):
    return data.train.images[data.train.labels == data.class_names.index(name)]


@pytest.mark.parametrize(("ending", "dtype"), KINDS.values(), ids=KINDS)
def test_all_levels_of_a_narrow_range_are_kept(tmp_path, ending, dtype):
    for name in ("a/1", "a/2", "b/1", "b/2"):
        save(tmp_path / f"{name}.{ending}", SCENE.astype(dtype))
    data = load_data("folder", tmp_path)
    assert data.value_range == (51241, 52181)
    image = data.train.images[0]
    assert len(np.unique(image)) == 256
    expected = (SCENE - 51241) * (255 / 940)
    assert np.abs(image - expected[..., None]).max() <= 0.5
    assert data.notice is None
    assert "deep pictures scaled from 51241..52181 to 0..255" in data.source


@pytest.mark.parametrize(("ending", "dtype"), KINDS.values(), ids=KINDS)
def test_a_scene_that_is_brighter_stays_so(tmp_path, ending, dtype):
    for i in range(3):
        save(tmp_path / "dark" / f"{i}.{ending}", SCENE.astype(dtype))
        save(tmp_path / "light" / f"{i}.{ending}", (SCENE + 5000).astype(dtype))
    save(tmp_path / "even" / f"1.{ending}", np.full((32, 32), 55000, dtype))
    data = load_data("folder", tmp_path)
    scale = 255 / (52181 + 5000 - 51241)
    difference = by_class(data, "light").mean() - by_class(data, "dark").mean()
    assert difference == pytest.approx(5000 * scale, abs=0.1)
    assert (by_class(data, "even") == round((55000 - 51241) * scale)).all()


def test_a_data_set_of_one_value_is_gray_and_announced(tmp_path):
    for name in ("a/1", "a/2", "b/1", "b/2"):
        save(tmp_path / f"{name}.tif", np.full((32, 32), 7, np.float32))
    data = load_data("folder", tmp_path)
    assert (data.train.images == 128).all()
    assert "from 128 to 128" in data.notice


def test_only_training_pictures_decide_and_others_are_clipped(tmp_path):
    save(tmp_path / "train" / "a" / "1.tif", SCENE.astype(np.float32))
    save(tmp_path / "test" / "a" / "1.tif", SCENE.astype(np.float32) * 2)
    save(tmp_path / "test" / "a" / "2.tif", SCENE.astype(np.float32) - 50000)
    data = load_data("folder", tmp_path)
    assert data.value_range == (51241, 52181)
    assert (data.test.images[0] == 255).all()
    assert (data.test.images[1] == 0).all()


def test_the_range_can_be_given_and_is_that_of_the_next_load(tmp_path):
    for i in range(3):
        save(tmp_path / "a" / f"{i}.png", SCENE.astype(np.uint16))
    for _ in range(2):
        own = load_data("folder", tmp_path)
        assert own.value_range == (51241, 52181)
        given = load_data("folder", tmp_path, value_range=(0.0, 65535.0))
        assert given.value_range == (0, 65535)
        assert given.train.images.min() == 199
        assert given.fingerprint != own.fingerprint


def test_pictures_of_eight_bits_have_no_range(tmp_path):
    for i in range(3):
        save(tmp_path / "a" / f"{i}.png", (SCENE - 51241).astype(np.uint8))
    data = load_data("folder", tmp_path)
    assert data.value_range is None
    assert "deep" not in data.source


def test_a_picture_with_nan_does_not_decide(tmp_path):
    values = SCENE.astype(np.float32)
    for i in range(3):
        save(tmp_path / "train" / "a" / f"{i}.tif", values)
    save(tmp_path / "test" / "a" / "1.tif", values)
    values[0, 0] = np.nan
    save(tmp_path / "train" / "a" / "nan.tif", values)
    with pytest.raises(UserError, match=r"a/nan.tif.* NaN or infinite"):
        load_data("folder", tmp_path)
    data = load_data("folder", tmp_path, skip_damaged=True)
    assert data.value_range == (51241, 52181)


def png_of_16_bit_colors():
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0)
    colors = np.repeat(SCENE.astype(">u2")[..., None], 3, axis=-1)
    rows = b"".join(b"\0" + row.tobytes() for row in colors)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["one extreme value", "16-bit colors", "dark"])
def test_few_levels_are_announced(tmp_path, kind):
    for i in range(20):
        path = save(tmp_path / "a" / f"{i}.png", SCENE.astype(np.uint16))
        if kind == "16-bit colors":
            path.write_bytes(png_of_16_bit_colors())
        elif kind == "dark":
            save(path, (SCENE % 15).astype(np.uint8))
    if kind == "one extreme value":
        values = SCENE.astype(np.uint16)
        values[0, :2] = 0, 65535
        save(tmp_path / "a" / "0.png", values)
        save(tmp_path / "a" / "1.png", values)
    notice = load_data("folder", tmp_path).notice
    assert "Nearly all values of the training pictures are from" in notice


def test_even_pictures_of_different_colors_are_not_announced(tmp_path):
    for name, color in (("a", "red"), ("b", "blue")):
        (tmp_path / name).mkdir()
        for i in range(5):
            Image.new("RGB", (40, 40), color).save(tmp_path / name / f"{i}.png")
    assert load_data("folder", tmp_path).notice is None


def stored(values, format_):
    file = io.BytesIO()
    Image.fromarray(values).save(file, format_)
    file.seek(0)
    return file


def test_a_picture_is_read_by_the_range_of_the_training():
    for dtype in (np.uint16, np.int32, np.float32):
        file = stored(SCENE.astype(dtype), "TIFF")
        image = read_picture(file, SHAPE, value_range=(51241.0, 52181.0))
        assert len(np.unique(image)) == 256
    eight_bits = stored((SCENE - 51241).astype(np.uint8), "PNG")
    plain = read_picture(eight_bits, SHAPE)
    eight_bits.seek(0)
    ranged = read_picture(eight_bits, SHAPE, value_range=(51241.0, 52181.0))
    np.testing.assert_array_equal(ranged, plain)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_without_a_range_values_of_unknown_scale_are_refused(dtype):
    with pytest.raises(UserError, match=r"values are from 51241 to 52181, .*16 bits$"):
        read_picture(stored(SCENE.astype(dtype), "TIFF"), SHAPE)


def test_a_pgm_is_scaled_by_the_maximum_that_it_states():
    values = np.full((32, 32), 4095 // 3, ">u2")
    file = io.BytesIO(b"P5 32 32 4095\n" + values.tobytes())
    assert (read_picture(file, SHAPE) == 85).all()


def test_ranges_are_joined():
    assert deep.join_ranges([]) is None
    assert deep.join_ranges([(1.0, 2.0), (-3.0, 1.5)]) == (-3, 2)
    low, high = deep.join_ranges([(5.0, 5.0)])
    assert (low + high) / 2 == 5
    assert low < high


def test_a_cache_with_a_damaged_range_is_refused(tmp_path, cache):
    for i in range(3):
        save(tmp_path / "a" / f"{i}.png", SCENE.astype(np.uint16))
    load_data("folder", tmp_path)
    (file,) = cache.rglob("contents.json")
    for value in ([1], "x", {}):
        text = json.loads(file.read_text()) | {"value_range": value}
        file.write_text(json.dumps(text))
        with pytest.raises(UserError, match="delete that folder"):
            load_data("folder", tmp_path)


def test_bounds_of_a_file(tmp_path):
    path = save(tmp_path / "1.tif", SCENE.astype(np.float32))
    assert pictures.deep_bounds(path) == (51241, 52181)
    assert pictures.deep_bounds(save(tmp_path / "2.png", np.eye(9) > 0)) is None
