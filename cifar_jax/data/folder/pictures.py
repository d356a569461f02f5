"""Reads image files at the size that networks take; shows what networks are given."""

import contextlib
import glob
import os
import pathlib
import stat
import warnings
from collections.abc import Iterator
from io import BufferedReader, BytesIO
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from cifar_jax.data.failure import reason
from cifar_jax.errors import UserError

# How pictures get the size that a network takes, see `read_picture`.
Resizing = Literal["crop", "stretch"]


def find(name: str) -> list[str]:
    """Returns the files that an argument of a command stands for.

    A folder stands for the pictures in it and in its sub-folders, and a pattern with *,
    ? or [] for the files that it matches, where ** stands for any folders. The shells
    of Windows leave patterns to commands. What a pattern could be, but is the name of a
    file, is that file.

    Raises:
        UserError: there are no such pictures, or a folder cannot be read.
    """
    path = pathlib.Path(name)
    try:
        if path.is_dir():
            found = _in_folder(path)
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


def may_be_picture(name: str) -> bool:
    """Whether a file's name is not that of a hidden file or of another kind of file."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
    # Photographs often have no suffix.
    return name[:1] != "." and (not suffix or suffix in Image.registered_extensions())


def _in_folder(path: pathlib.Path) -> list[str]:
    def fail(error: OSError) -> None:
        raise error

    found = []
    for folder, folders, files in os.walk(path, onerror=fail):
        # The walk goes on in this order.
        folders[:] = sorted(name for name in folders if name[:1] != ".")
        pictures = sorted(filter(may_be_picture, files))
        found += [str(pathlib.Path(folder, name)) for name in pictures]
    return found


def read_picture(
    file: str | os.PathLike[str] | BufferedReader | BytesIO | None,
    image_shape: tuple[int, int, int],
    formats: tuple[str, ...] | None = None,
    resize: Resizing = "crop",
) -> UInt8[np.ndarray, "h w 3"]:
    """Reads a picture of any size and of any format and mode that Pillow supports.

    It is rotated according to its EXIF data, composited onto white where it is
    transparent, and resized.

    Args:
        file: a file name, or a binary stream such as sys.stdin.buffer; None stands for
            a closed standard input.
        image_shape: the height, width and channels that the network takes.
        formats: those to accept, by Pillow's names; None for all. Some of the others
            start a program: EPS, for example, starts Ghostscript.
        resize: "crop": to the center in the right proportions, then by Lanczos;
            "stretch": the whole picture to the nearest pixels, as `load_img` of Keras.

    Raises:
        UserError: the file does not exist or cannot be read as a picture.
    """
    with quiet_decoders():
        return decode(file, image_shape, formats, resize)


@contextlib.contextmanager
def quiet_decoders() -> Iterator[None]:
    """Suppresses Pillow's warnings, in all threads."""
    with warnings.catch_warnings():
        # Warnings of sizes below the limit and of damaged metadata do not matter.
        warnings.simplefilter("ignore")
        yield


def decode(
    file: str | os.PathLike[str] | BufferedReader | BytesIO | None,
    image_shape: tuple[int, int, int],
    formats: tuple[str, ...] | None = None,
    resize: Resizing = "crop",
) -> UInt8[np.ndarray, "h w 3"]:
    """Does what `read_picture` does, but lets Pillow warn.

    Several threads may call it at the same time, inside of one `quiet_decoders`.

    Raises:
        UserError: the file does not exist or cannot be read as a picture.
    """
    source: pathlib.Path | BufferedReader | BytesIO
    if isinstance(file, str | os.PathLike):
        name, source = os.fspath(file), _regular_file(file)
    elif file is None or getattr(file, "closed", False):
        name = getattr(file, "name", "standard input")
        raise UserError(f"{name} is closed; give a file name instead")
    elif hasattr(file, "read"):
        name, source = getattr(file, "name", "stdin"), file
    else:
        raise UserError(f"file={file!r} must be a path or an open binary file")
    try:
        with Image.open(source, formats=formats) as image:
            height, width, _ = image_shape
            if resize == "crop":
                # Decodes a JPEG at the smallest scale that is still sufficient.
                image.draft(None, (4 * width, 4 * height))
            return _resized(image, height, width, resize)
    except UnidentifiedImageError:
        raise UserError(f"{name} is not a readable picture") from None
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} is too large; scale it down first: {error}") from None
    except OSError as error:
        raise UserError(
            f"cannot read {name}: {error.strerror or reason(error)}"
        ) from None
    except Exception as error:  # decoders can raise almost anything on hostile input
        raise UserError(f"{name} is damaged: {reason(error)}") from None


def as_picture(image: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Converts a standardized image as `tf.summary.image` does: 0 becomes gray, 127.

    It is scaled by the largest factor that keeps all values within 0..255.
    """
    largest = max(image.max() / 128, -image.min() / 127, np.finfo(np.float32).tiny)
    return np.clip(image / largest + 127, 0, 255).astype(np.uint8)


def _regular_file(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the path, unless its file may not be seekable or may block forever."""
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


def _resized(
    image: Image.Image, height: int, width: int, resize: Resizing
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        upright = _stretch(upright)
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright)
    picture, size = upright.convert("RGB"), (width, height)
    if resize == "stretch":
        return np.asarray(picture.resize(size, Image.Resampling.NEAREST))
    return np.asarray(ImageOps.fit(picture, size, Image.Resampling.LANCZOS))


def _stretch(image: Image.Image) -> Image.Image:
    """Scales deep gray values to 0..255, by the 16-bit range or else by min and max."""
    values = np.asarray(image, np.float32)
    if not np.isfinite(values).all():
        raise ValueError("it has NaN or infinite values")
    low, high = values.min(), values.max()
    if image.mode.startswith("I;16"):
        low, high = 0, 65535
    scaled = (values - low) * (255 / max(high - low, np.finfo(np.float32).tiny))
    return Image.fromarray(scaled.astype(np.uint8))
