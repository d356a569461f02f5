"""Reads image files at the size that networks take, and shows network inputs."""

import contextlib
import errno
import glob
import os
import pathlib
import stat
import threading
import warnings
from collections.abc import Iterator
from io import BufferedReader, BytesIO
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from cifar_jax.data.failure import reason
from cifar_jax.data.folder import deep, picture_files
from cifar_jax.errors import RunError, UserError

# Editors put megabytes of text and color profiles into PNG files, while Pillow takes
# 1 MB for an attack. This limit, too, bounds the memory that a hostile file can use.
_MOST_TEXT = 64 << 20
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = _MOST_TEXT
# Error numbers that are not the file's fault.
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
_BEGINNING = 32  # bytes that identify the kind of a file
# How pictures get the size that a network takes; see `read_picture`.
Resizing = Literal["crop", "stretch"]


def find(name: str) -> list[str]:
    """Returns the files that a command-line argument stands for.

    A folder stands for the pictures in it and in its sub-folders, and a pattern with *,
    ? or [] for the files that it matches, where ** stands for any folders. (Windows
    shells leave patterns to commands.) A name that could be a pattern but is that of a
    file stands for the file.

    Raises:
        UserError: there are no such pictures, or a folder cannot be read.
    """
    path = pathlib.Path(name)
    try:
        if path.is_dir():
            found = _find_in_folder(path)
        elif glob.has_magic(name) and not path.exists():
            # Path.glob takes no absolute patterns.
            matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207
            found = [match for match in matches if not pathlib.Path(match).is_dir()]
        else:
            return [name]
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {name}: {problem}") from None
    if not found:
        raise UserError(f"there are no pictures in {name}")
    return found


def _find_in_folder(path: pathlib.Path) -> list[str]:
    def fail(error: OSError) -> None:
        raise error

    found = []
    for folder, folders, files in os.walk(path, onerror=fail):
        # The walk continues in this order.
        folders[:] = sorted(filter(picture_files.is_own_folder, folders))
        paths = [pathlib.Path(folder, name) for name in sorted(files)]
        found += [str(path) for path in paths if picture_files.is_picture(path)]
    return found


def read_picture(
    file: str | os.PathLike[str] | BufferedReader | BytesIO | None,
    image_shape: tuple[int, int, int],
    formats: tuple[str, ...] | None = None,
    value_range: deep.Range | None = None,
    resize: Resizing = "crop",
) -> UInt8[np.ndarray, "h w 3"]:
    """Reads a picture of any size, and of any format and mode that Pillow supports.

    It is rotated according to its EXIF data, composited onto white where it is
    transparent, and resized.

    Args:
        file: a file name, or a binary stream such as sys.stdin.buffer; None stands for
            a closed standard input.
        image_shape: the height, width and channels that the network takes.
        formats: the formats to accept, by Pillow's names; None for all. Some formats
            start a program: EPS, for example, starts Ghostscript.
        value_range: the values of deep gray pictures that become 0 and 255, as in
            `Dataset` and `Trained`; None for 0 and 65535, which refuses floats.
        resize: "crop" cuts out the center in the right proportions, then resizes by
            Lanczos; "stretch" resizes the whole picture to the nearest pixels, like
            Keras's `load_img`.

    Raises:
        UserError: the file does not exist or cannot be read as a picture.
        RunError: there is not enough memory for it, or too many files are open.
    """
    with quiet_decoders():
        return decode(file, image_shape, formats, value_range, resize)


class _Quiet:
    """Suppresses warnings, in all threads, while any thread is in this context.

    `warnings.catch_warnings` alone would restore them in the order in which threads
    leave it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._before.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._before.close()


# Pillow's warnings about sizes below the limit and damaged metadata do not matter.
_QUIET = _Quiet()


def quiet_decoders() -> contextlib.AbstractContextManager[None]:
    """Returns a context that suppresses Pillow's warnings in all threads."""
    return _QUIET


def decode(
    file: str | os.PathLike[str] | BufferedReader | BytesIO | None,
    image_shape: tuple[int, int, int],
    formats: tuple[str, ...] | None = None,
    value_range: deep.Range | None = None,
    resize: Resizing = "crop",
) -> UInt8[np.ndarray, "h w 3"]:
    """Does what `read_picture` does, but lets Pillow warn.

    Several threads may call it at the same time, inside one `quiet_decoders`.

    Raises:
        UserError: the file does not exist or cannot be read as a picture.
        RunError: there is not enough memory for it, or too many files are open.
    """
    height, width, _ = image_shape
    with _open(file, formats) as image:
        if resize == "crop":
            # Decodes a JPEG at the smallest scale that is still sufficient.
            image.draft(None, (4 * width, 4 * height))
        return _resize(image, height, width, value_range, resize)


def count_pixels(
    file: str | os.PathLike[str] | BufferedReader | BytesIO | None,
    formats: tuple[str, ...] | None = None,
) -> int:
    """Returns the number of pixels in a picture without decoding it.

    Raises:
        UserError: the file does not exist or cannot be read as a picture.
    """
    with quiet_decoders(), _open(file, formats) as image:
        return image.width * image.height


def deep_bounds(file: str | os.PathLike[str]) -> deep.Range | None:
    """Returns the smallest and largest value of a picture; None if it has 8 bits.

    Most pictures have 8 bits, and are not decoded.

    Raises:
        UserError: the file does not exist or cannot be read as a picture.
        RunError: there is not enough memory for it, or too many files are open.
    """
    if deep.has_eight_bits(_beginning(_regular_file(file))):
        return None
    with _open(file) as image:
        return deep.bounds(image) if deep.is_deep(image) else None


@contextlib.contextmanager
def _open(
    file: str | os.PathLike[str] | BufferedReader | BytesIO | None,
    formats: tuple[str, ...] | None = None,
) -> Iterator[Image.Image]:
    """Opens a picture; raises UserError if something is wrong with it.

    If this machine lacks something, it raises RunError: the picture may be intact.
    """
    source: pathlib.Path | BufferedReader | BytesIO
    if isinstance(file, str | os.PathLike):
        name, source = os.fspath(file), _regular_file(file)
    elif file is None or getattr(file, "closed", False):
        name = getattr(file, "name", "standard input")
        raise UserError(f"{name} is closed; pass a file name instead")
    elif hasattr(file, "read"):
        name, source = str(getattr(file, "name", "stdin")), file
    else:
        raise UserError(f"file={file!r} must be a path or an open binary file")
    if obstacle := picture_files.find_obstacle(name):
        raise UserError(f"{name} {obstacle}")
    try:
        with Image.open(source, formats=formats) as image:
            yield image
    except UnidentifiedImageError:
        if obstacle := picture_files.find_obstacle(name, _beginning(source)):
            raise UserError(f"{name} {obstacle}") from None
        raise UserError(f"{name} is not a readable picture") from None
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} is too large; scale it down first: {error}") from None
    except OSError as error:
        why = error.strerror or reason(error)
        if error.errno in _SHORTAGES or "out of memory" in why:
            raise RunError(f"{name} cannot be read now: {why}") from error
        raise UserError(f"cannot read {name}: {why}") from None
    except MemoryError as error:
        raise RunError(
            f"there is not enough memory for {name}; scale it down, or close other "
            "programs"
        ) from error
    except deep.DeepValuesError as error:
        raise UserError(f"{name} cannot be used: {error}") from None
    except Exception as error:  # decoders can raise almost anything on hostile input
        if "MAX_TEXT" in str(error):
            raise UserError(
                f"{name} has more than {_MOST_TEXT >> 20} MB of text or color profile; "
                "save it without them"
            ) from None
        raise UserError(f"{name} is damaged: {reason(error)}") from None


def _beginning(source: pathlib.Path | BufferedReader | BytesIO) -> bytes:
    """Returns the first bytes of a file; none if they cannot be read again."""
    with contextlib.suppress(OSError):
        if isinstance(source, pathlib.Path):
            with source.open("rb") as file:
                return file.read(_BEGINNING)
        source.seek(0)
        return source.read(_BEGINNING)
    return b""


def as_picture(image: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Converts a standardized image as `tf.summary.image` does: 0 becomes gray, 127.

    It is scaled by the largest factor that keeps all values within 0..255.
    """
    largest = max(image.max() / 128, -image.min() / 127, np.finfo(np.float32).tiny)
    return np.clip(image / largest + 127, 0, 255).astype(np.uint8)


def _regular_file(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the path, unless its file may block forever or not be seekable."""
    try:
        mode = pathlib.Path(path).stat().st_mode
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {problem}") from None
    if stat.S_ISDIR(mode):
        raise UserError(f"cannot read {path}: it is a directory")
    if not stat.S_ISREG(mode):
        raise UserError(
            f"{path} is not a regular file; use - to read from standard input"
        )
    return pathlib.Path(path)


def _resize(
    image: Image.Image,
    height: int,
    width: int,
    value_range: deep.Range | None,
    resize: Resizing,
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    upright, file_format = image, image.format
    # Copies of large pictures take gigabytes.
    ImageOps.exif_transpose(upright, in_place=True)
    if deep.is_deep(upright):
        upright = deep.to_gray(upright, file_format, value_range)
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright)
    picture = upright if upright.mode == "RGB" else upright.convert("RGB")
    size = (width, height)
    if resize == "stretch":
        return np.asarray(picture.resize(size, Image.Resampling.NEAREST))
    return np.asarray(ImageOps.fit(picture, size, Image.Resampling.LANCZOS))
