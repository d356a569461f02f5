"""Anybody's picture, as an image of the size the networks were trained on."""

import os
import pathlib
import warnings
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from cifar_jax.errors import UserError

_SIZE = 32
# Decoding takes some 4 bytes a pixel; a hostile file must not take all memory.
_MAX_PIXELS = 200_000_000


def read_picture(file: str | os.PathLike | BinaryIO) -> UInt8[np.ndarray, "32 32 3"]:
    """Reads a picture of any size, mode and format that Pillow knows.

    It is turned as its EXIF data says, laid on white where it is transparent, cut
    to its central square and resized to 32 x 32.

    Raises:
        UserError: there is no such file, or it is no picture that can be read.
    """
    name = getattr(file, "name", "stdin") if hasattr(file, "read") else str(file)
    path = file if hasattr(file, "read") else pathlib.Path(file)
    try:
        with warnings.catch_warnings():
            # Pillow warns from 89 megapixels on; the bound here is our own.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > _MAX_PIXELS:
                    raise UserError(
                        f"{name} has {image.width} x {image.height} pixels; the limit "
                        f"is {_MAX_PIXELS // 10**6} million: scale it down first"
                    )
                # A JPEG is decoded at the smallest scale that is still enough.
                image.draft(None, (4 * _SIZE, 4 * _SIZE))
                return _to_square(image)
    except UnidentifiedImageError:
        raise UserError(f"{name} is not a picture that can be read") from None
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} is too large: {error}") from None
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror or error}") from None
    except (ValueError, SyntaxError, EOFError) as error:  # from Pillow's decoders
        raise UserError(f"{name} is damaged: {error}") from None


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
    low, high = values.min(), values.max()
    if image.mode.startswith("I;16"):
        low, high = 0, 65535
    scaled = (values - low) * (255 / max(high - low, np.finfo(np.float32).tiny))
    return Image.fromarray(scaled.astype(np.uint8))
