"""Anybody's picture, as an image of the size the networks were trained on."""

import os
import pathlib
import stat
import warnings
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from cifar_jax.data.failure import reason
from cifar_jax.errors import UserError

_SIZE = 32


def read_picture(
    file: str | os.PathLike[str] | BinaryIO | None,
) -> UInt8[np.ndarray, "32 32 3"]:
    """Reads a picture of any mode and format that Pillow knows, and of any size.

    It is turned as its EXIF data says, laid on white where it is transparent, cut
    to its central square and resized to 32 x 32.

    Args:
        file: the name of a file, or a binary stream such as sys.stdin.buffer; None
            stands for a standard input that is closed.

    Raises:
        UserError: there is no such file, or it is no picture that can be read.
    """
    source: pathlib.Path | BinaryIO
    if isinstance(file, str | os.PathLike):
        name, source = os.fspath(file), _regular_file(file)
    elif file is None or getattr(file, "closed", False):
        name = getattr(file, "name", "standard input")
        raise UserError(f"{name} is closed; give the name of a file")
    elif hasattr(file, "read"):
        name, source = getattr(file, "name", "stdin"), file
    else:
        raise UserError(f"file={file!r} must be a path or a file that is open")
    try:
        with warnings.catch_warnings():
            # Of sizes below its limit, of damaged metadata: none of it matters here.
            warnings.simplefilter("ignore")
            with Image.open(source) as image:
                # A JPEG is decoded at the smallest scale that is still enough.
                image.draft(None, (4 * _SIZE, 4 * _SIZE))
                return _to_square(image)
    except UnidentifiedImageError:
        raise UserError(f"{name} is not a picture that can be read") from None
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} is too large, scale it down first: {error}") from None
    except OSError as error:
        raise UserError(
            f"cannot read {name}: {error.strerror or reason(error)}"
        ) from None
    except Exception as error:  # decoders raise nearly anything on hostile bytes
        raise UserError(f"{name} is damaged: {reason(error)}") from None


def _regular_file(path: str | os.PathLike[str]) -> pathlib.Path:
    """The path, unless it is of something that one cannot seek in or wait for."""
    try:
        mode = pathlib.Path(path).stat().st_mode
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {problem}") from None
    if stat.S_ISDIR(mode):
        raise UserError(f"cannot read {path}: it is a directory")
    if not stat.S_ISREG(mode):
        raise UserError(
            f"{path} is not a regular file; - reads a picture from standard input"
        )
    return pathlib.Path(path)


def _to_square(image: Image.Image) -> UInt8[np.ndarray, "32 32 3"]:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        upright = _stretch(upright)
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright)
    return np.asarray(
        ImageOps.fit(upright.convert("RGB"), (_SIZE, _SIZE), Image.Resampling.LANCZOS)
    )


def _stretch(image: Image.Image) -> Image.Image:
    """Maps deep grey values to 0..255: 16-bit ones by their range, else by theirs."""
    values = np.asarray(image, np.float32)
    if not np.isfinite(values).all():
        raise ValueError("it has values that are NaN or infinite")
    low, high = values.min(), values.max()
    if image.mode.startswith("I;16"):
        low, high = 0, 65535
    scaled = (values - low) * (255 / max(high - low, np.finfo(np.float32).tiny))
    return Image.fromarray(scaled.astype(np.uint8))
