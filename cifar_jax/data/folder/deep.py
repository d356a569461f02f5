"""Pictures with more than 8 bits: 16- or 32-bit gray values, and floats.

Networks see 8 bits. All pictures in a data set are scaled by the same range, so that
brighter scenes stay brighter. A run records the range of its training pictures, which
is also used for the pictures that its network is given later.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from PIL import Image

# Values that become 0 and 255; those outside of it are clipped.
Range = tuple[float, float]
_SIXTEEN_BITS: Range = (0.0, 65535.0)


class DeepValuesError(ValueError):
    """It is unknown how to convert the values of a picture to 8 bits."""


def is_deep(image: Image.Image) -> bool:
    """Returns whether a picture has more than 8 bits that Pillow keeps.

    Of 16-bit colors, it keeps the upper 8 bits.
    """
    return image.mode.startswith(("I", "F"))


def has_eight_bits(beginning: bytes) -> bool:
    """Returns whether a file surely has 8-bit colors, by its first 25 or more bytes."""
    if beginning.startswith(b"\x89PNG"):
        return beginning[24:25] <= b"\x08"  # as the header says
    return beginning.startswith((b"\xff\xd8\xff", b"GIF8", b"RIFF"))


def bounds(image: Image.Image) -> Range:
    """Returns the smallest and largest value of a deep picture.

    Raises:
        DeepValuesError: some values are not finite.
    """
    values = _values(image)
    return float(values.min()), float(values.max())


def join_ranges(ranges: Sequence[Range]) -> Range | None:
    """Returns the range of a data set from those of its pictures; None without any.

    If all values are equal, they become the middle of the range.
    """
    if not ranges:
        return None
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    margin = max(1.0, abs(low)) if low == high else 0.0
    return low - margin, high + margin


def to_gray(
    image: Image.Image, file_format: str | None, value_range: Range | None
) -> Image.Image:
    """Scales a deep picture to 8 bits.

    Args:
        image: the picture.
        file_format: Pillow's name for the file format.
        value_range: range of its data set; None for that of 16 bits, if it has 16.

    Raises:
        DeepValuesError: it is unknown which values are black and white, or some values
            are not finite.
    """
    values = _values(image)
    if value_range is None and _has_sixteen_bits(image, file_format):
        value_range = _SIXTEEN_BITS
    if value_range is None:
        raise DeepValuesError(
            f"its values are from {values.min():g} to {values.max():g}, and there were "
            "no such training pictures, so it is unknown which values are black and "
            "white; save it with 8 or 16 bits"
        )
    low, high = value_range
    scaled = np.clip((values - low) * (255 / (high - low)), 0, 255)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _has_sixteen_bits(image: Image.Image, file_format: str | None) -> bool:
    # In a mode with 32 bits, Pillow scales PGM to 16 bits, and used to do so with PNG.
    return image.mode.startswith("I;16") or file_format in ("PPM", "PNG")


def _values(image: Image.Image) -> Float64[np.ndarray, "h w"]:
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise DeepValuesError("it has NaN or infinite values")
    return values
