import contextlib
import functools
import io
import os
import pathlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from cifar_jax import UserError
from cifar_jax.data.folder import pictures

read_picture = functools.partial(pictures.read_picture, image_shape=(32, 32, 3))


def gradient(width: int = 64, height: int = 64) -> np.ndarray:
    """Returns a picture: red on the left, blue on the right, darker at the top."""
    x = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    y = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return np.stack([255 - x, y, x], axis=-1).astype(np.uint8)


def saved(image: Image.Image, format_: str = "PNG", **options) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, format_, **options)
    file.seek(0)
    return file


def test_an_image_of_the_right_size_is_taken_as_it_is():
    pixels = np.random.RandomState(0).randint(0, 256, (32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(read_picture(saved(Image.fromarray(pixels))), pixels)


def test_a_folder_stands_for_the_pictures_in_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b/1.jpg", "a/z/no suffix", "a/2.PNG", "b/notes.txt", ".g/3.png"):
        pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(name).touch()
    everything = ["a/2.PNG", "a/z/no suffix", "b/1.jpg"]
    assert pictures.find(".") == everything
    assert pictures.find(str(tmp_path)) == [f"{tmp_path}/{name}" for name in everything]
    assert pictures.find("**/*.jpg") == ["b/1.jpg"]
    assert pictures.find("?/*") == ["a/2.PNG", "b/1.jpg", "b/notes.txt"]


@pytest.mark.parametrize("name", ["-", "missing.png", "file[1].png", "nul\0"])
def test_other_names_stand_for_themselves(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("file[1].png").touch()
    pathlib.Path("file1.png").touch()
    assert pictures.find(name) == [name]


@pytest.mark.parametrize("name", ["*.png", "empty", "nul\0*"])
def test_nothing_found_is_an_error(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("empty").mkdir()
    with pytest.raises(UserError, match=r"there are no pictures in|null"):
        pictures.find(name)


def test_by_path_or_name(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(gradient()).save(path)
    np.testing.assert_array_equal(read_picture(path), read_picture(str(path)))


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF"])
def test_formats_agree(format_):
    picture = read_picture(saved(Image.fromarray(gradient()), format_))
    reference = read_picture(saved(Image.fromarray(gradient())))
    # A GIF has only 256 colors, and JPEG compression is lossy.
    assert np.abs(picture.astype(int) - reference).mean() < 8


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "YCbCr", "LAB", "HSV"])
def test_color_modes_agree(mode):
    format_ = {"YCbCr": "JPEG", "CMYK": "JPEG", "LAB": "TIFF"}.get(mode, "PNG")
    image = Image.fromarray(gradient())
    if mode not in ("LAB", "HSV"):  # Pillow cannot convert these both ways.
        image = image.convert(mode)
    picture = read_picture(saved(image, format_))
    assert picture.shape == (32, 32, 3)
    assert (
        np.abs(
            picture.astype(int) - read_picture(saved(Image.fromarray(gradient())))
        ).mean()
        < 20
    )


def test_gray_becomes_three_equal_channels():
    gray = Image.fromarray(gradient()[..., 2])
    for image in (gray, gray.convert("LA"), gray.convert("1")):
        picture = read_picture(saved(image))
        assert (picture == picture[..., :1]).all()


def test_sixteen_bits_are_scaled_by_their_range():
    deep = (np.linspace(0, 65535, 64 * 64).reshape(64, 64)).astype(np.uint16)
    picture = read_picture(saved(Image.fromarray(deep)))
    shallow = read_picture(saved(Image.fromarray((deep >> 8).astype(np.uint8))))
    assert np.abs(picture.astype(int) - shallow).max() <= 2
    half = read_picture(saved(Image.fromarray(deep // 2)))
    assert half.max() < 135


def test_transparent_parts_are_white():
    pixels = np.zeros((64, 64, 4), np.uint8)
    assert (read_picture(saved(Image.fromarray(pixels))) == 255).all()
    palette = Image.fromarray(gradient()).convert("P")
    assert (read_picture(saved(palette, transparency=bytes(256))) == 255).all()


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90),
     (8, Image.Transpose.ROTATE_270), (2, Image.Transpose.FLIP_LEFT_RIGHT)],
)  # fmt: skip
def test_exif_orientation_is_applied(orientation, undo):
    upright = Image.fromarray(gradient())
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = saved(upright.transpose(undo), exif=exif)
    np.testing.assert_array_equal(read_picture(turned), read_picture(saved(upright)))


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "GIF"])
@pytest.mark.parametrize("size", [(300, 200), (20, 50), (32, 32)])
def test_stretched_as_keras_does(size, format_):
    image = Image.fromarray(gradient(*size))
    found = read_picture(saved(image, format_), resize="stretch")
    # What keras.utils.load_img(file, target_size=(32, 32)) consists of.
    with Image.open(saved(image, format_)) as opened:
        expected = opened.convert("RGB").resize((32, 32), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(found, np.asarray(expected))
    if size != (32, 32):
        assert not np.array_equal(found, read_picture(saved(image, format_)))


@pytest.mark.slow
def test_stretched_by_keras(keras, tmp_path):
    image = Image.fromarray(gradient(301, 207))
    for name in ("a.jpg", "a.png"):
        image.save(tmp_path / name)
        expected = keras.utils.load_img(tmp_path / name, target_size=(32, 32))
        found = read_picture(tmp_path / name, resize="stretch")
        np.testing.assert_array_equal(found, np.asarray(expected))


@pytest.mark.parametrize(("width", "height"), [(200, 100), (100, 200)])
def test_the_central_square_is_kept(width, height):
    pixels = np.zeros((height, width, 3), np.uint8)
    top, left = (height - 100) // 2, (width - 100) // 2
    pixels[top : top + 100, left : left + 100] = 255
    picture = read_picture(saved(Image.fromarray(pixels)))
    assert (picture[2:-2, 2:-2] >= 254).all()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 500), (3, 2), (31, 33)])
def test_tiny_and_narrow_pictures(width, height):
    image = Image.new("RGB", (width, height), (10, 200, 30))
    assert (read_picture(saved(image)) == [10, 200, 30]).all()


@pytest.mark.parametrize(
    ("format_", "options"), [("PNG", {"compress_level": 1}), ("JPEG", {})]
)
def test_a_huge_picture(format_, options):
    image = Image.new("L", (10_000, 10_000), 200)
    picture = read_picture(saved(image, format_, **options)).astype(int)
    assert np.abs(picture - 200).max() < 4


def test_an_animation_shows_its_first_frame():
    frames = [Image.new("RGB", (40, 40), color) for color in ("red", "blue")]
    file = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (read_picture(file) == [255, 0, 0]).all()


def bomb(width: int, height: int) -> io.BytesIO:
    """Returns a PNG of a few bytes that claims to have the given size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return io.BytesIO(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [19_000, 60_000])
def test_a_bomb_is_refused(side):
    with pytest.raises(UserError, match=r"too large; scale it down first: .* limit"):
        read_picture(bomb(side, side))


@pytest.mark.parametrize("place", ["text", "compressed text", "international", "icc"])
def test_megabytes_of_text_or_color_profile_are_no_damage(place):
    image, options = Image.new("RGB", (40, 40), "red"), {}
    text = PngImagePlugin.PngInfo()
    match place:
        case "icc":
            options["icc_profile"] = os.urandom(1 << 20) + bytes(2 << 20)
        case "international":
            text.add_itxt("key", "\u00e9" * (3 << 20), zip=True)
        case _:
            text.add_text("key", "x" * (3 << 20), zip=place == "compressed text")
    file = saved(image, pnginfo=text, **options)
    assert (read_picture(file) == [255, 0, 0]).all()


@pytest.mark.parametrize("chunks", [1, 3])
def test_a_bomb_of_text_is_refused(chunks):
    text = PngImagePlugin.PngInfo()
    for i in range(chunks):
        text.add_text(f"key{i}", "x" * ((66 << 20) // chunks), zip=True)
    file = saved(Image.new("RGB", (40, 40), "red"), pnginfo=text)
    assert len(file.getvalue()) < 1 << 20
    with pytest.raises(UserError, match="more than 64 MB of text or color profile"):
        read_picture(file)


def damaged() -> dict[str, bytes]:
    png = saved(Image.fromarray(gradient())).getvalue()
    jpeg = saved(Image.fromarray(gradient()), "JPEG").getvalue()
    return {
        "text": b"This is no picture.\n",
        "empty": b"",
        "cut png": png[: len(png) // 2],
        "cut jpeg": jpeg[: len(jpeg) // 2],
        "png header only": png[:40],
        "wrong checksum": png[:60] + bytes([png[60] ^ 255]) + png[61:],
    }


@pytest.mark.parametrize("content", damaged().values(), ids=damaged())
def test_files_that_are_not_pictures_give_a_one_line_error(content, tmp_path):
    path = tmp_path / "file.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"file\.png") as caught:
        read_picture(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("format_", ["AVIF", "DDS", "WEBP", "GIF", "TIFF", "ICNS"])
def test_any_decoder_error_blames_the_file(format_):
    """Changes bytes of each file at random places, or truncates it."""
    whole = saved(Image.fromarray(gradient()), format_).getvalue()
    random = np.random.RandomState(0)
    for _ in range(60):
        content = np.frombuffer(whole, np.uint8).copy()
        # Headers are changed most often.
        places = (random.uniform(size=4) ** 3 * len(content)).astype(int)
        content[places] = random.randint(0, 256, 4)
        cut = random.choice([len(content), places[0] + 1])
        file = io.BytesIO(content[:cut].tobytes())
        with contextlib.suppress(UserError):
            assert read_picture(file).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NotImplementedError("pixel format\n 7"), "pixel format 7"),
        (AssertionError(), "AssertionError"),
    ],
    ids=["of two lines", "without words"],
)
def test_an_error_unknown_to_pillow_blames_the_file(monkeypatch, error, words):
    def fail(*_):
        raise error

    monkeypatch.setattr("PIL.ImageOps.fit", fail)
    with pytest.raises(UserError, match=f"stdin is damaged: {words}$"):
        read_picture(saved(Image.fromarray(gradient())))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value):
    values = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    values[3, 4] = value
    with pytest.raises(UserError, match="NaN or infinite"):
        read_picture(saved(Image.fromarray(values), "TIFF"))


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_picture(tmp_path / "missing.png")
    with pytest.raises(UserError, match="directory"):
        read_picture(tmp_path)
    with pytest.raises(UserError, match="File name too long"):
        read_picture("long" * 100)


def test_fifos_and_circular_links_are_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo.png")
    with pytest.raises(UserError, match="use - to read from standard input"):
        read_picture(tmp_path / "fifo.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with pytest.raises(UserError, match="Too many levels"):
        read_picture(tmp_path / "loop.png")


@pytest.mark.wrong_types
def test_anything_but_an_open_file_is_refused(tmp_path):
    # Python's sys.stdin is None if standard input is closed.
    with pytest.raises(UserError, match="standard input is closed"):
        read_picture(None)
    with (tmp_path / "closed.png").open("wb") as file:
        pass
    with pytest.raises(UserError, match=r"closed\.png is closed"):
        read_picture(file)
    with pytest.raises(UserError, match="file=3 must be a path"):
        read_picture(3)


def test_picture_maps_zero_to_gray_and_uses_the_range():
    image = np.zeros((2, 2, 3), np.float32)
    image[0, 0], image[1, 1] = -1.0, 0.5
    picture = pictures.as_picture(image)
    assert picture.dtype == np.uint8
    assert picture[0, 1, 0] == 127
    assert picture.min() == 0
    assert 127 < picture.max() <= 255
    assert (pictures.as_picture(np.zeros((2, 2, 3), np.float32)) == 127).all()
