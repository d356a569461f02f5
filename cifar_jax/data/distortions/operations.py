"""The operations that AutoAugment and its successors choose from, without branches.

There are seven alternatives, of which each image picks one. The only thing that is
computed for all images is their histogram, which equalize needs.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer, Scalar, Shaped, UInt8

from cifar_jax.data.distortions.affine import Interpolation, inverse_matrix, resample
from cifar_jax.data.distortions.colors import blend, luma, mean_luma
from cifar_jax.data.distortions.picking import pick

NAMES = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate"),
    *("brightness", "color", "contrast", "sharpness"),
    *("posterize", "solarize", "autocontrast", "equalize", "invert"),
)
IDENTITY = 0
AFFINE = SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y, ROTATE = range(1, 6)
BLENDS = BRIGHTNESS, COLOR, CONTRAST, SHARPNESS = range(6, 10)
VALUES = POSTERIZE, SOLARIZE, AUTOCONTRAST, EQUALIZE, INVERT = range(10, 15)
# The alternative that computes each operation.
_ALTERNATIVES = (*(0, 0, 0, 0, 0, 0), *(1, 2, 1, 3), *(4, 4, 5, 6, 4))


def transform(
    image: UInt8[Array, "h w c"],
    operation: Int[Scalar, ""],
    magnitude: Float[Scalar, ""],
    interpolation: Interpolation = "nearest",
) -> UInt8[Array, "h w c"]:
    """Returns an image after one operation, as defined by torchvision for bytes.

    Args:
        image: bytes.
        operation: its number, such as SHEAR_X.
        magnitude: the tangent of the angle of a shear; pixels of a translation,
            truncated; degrees of a rotation, counterclockwise; the factor of a blend,
            minus 1; the bits that posterize keeps; the lowest value that solarize
            inverts. The others do not use it.
        interpolation: of shears, translations and rotations.
    """
    gray, factor = luma(image), 1 + magnitude
    flat = jnp.where(operation == CONTRAST, mean_luma(image), 0)
    counts = _histogram(image)
    alternatives = (
        resample(image, _matrix(image, operation, magnitude), interpolation),
        blend(image, flat, factor),
        blend(image, gray, factor),
        blend(image, _blur(image), factor),
        _invert_or_posterize(image, operation, magnitude),
        _stretch(image, counts),
        _equalize(image, counts),
    )
    return pick(alternatives, _look_up(jnp.array(_ALTERNATIVES), operation))


def _matrix(
    image: UInt8[Array, "h w c"],
    operation: Int[Scalar, ""],
    magnitude: Float[Scalar, ""],
) -> Float[Array, "2 3"]:
    """Returns the affine map; see `inverse_matrix`."""
    height, width, _ = image.shape

    def only(wanted: int) -> Float[Array, ""]:
        return jnp.where(operation == wanted, magnitude, 0)

    shear = only(SHEAR_X), only(SHEAR_Y)
    # The upper left corner stays where it is in a shear, not the center.
    translate = (
        jnp.trunc(only(TRANSLATE_X)) - shear[0] * height / 2,
        jnp.trunc(only(TRANSLATE_Y)) - shear[1] * width / 2,
    )
    return inverse_matrix(jnp.radians(-only(ROTATE)), translate, 1.0, shear)


def _blur(image: UInt8[Array, "h w c"]) -> Int[Array, "h w c"]:
    """Returns weighted means of 3x3 pixels, rounded; the outermost pixels stay.

    The pixel itself weighs 5/13 and its neighbors 1/13 each, as in Pillow's SMOOTH.
    """
    image = image.astype(jnp.int32)
    rows = image[:-2] + image[1:-1] + image[2:]
    sums = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    blurred = (sums + 4 * image[1:-1, 1:-1] + 6) // 13
    return image.at[1:-1, 1:-1].set(blurred)


def _invert_or_posterize(
    image: UInt8[Array, "h w c"],
    operation: Int[Scalar, ""],
    magnitude: Float[Scalar, ""],
) -> UInt8[Array, "h w c"]:
    """Returns the image with high values inverted, or with the first bits only."""
    kept = jnp.where(operation == POSTERIZE, magnitude, 8)
    dropped = 8 - kept.astype(jnp.uint8)
    lowest = jnp.where(operation == INVERT, 0, magnitude)
    inverts = (operation != POSTERIZE) & (image >= lowest)
    return jnp.where(inverts, 255 - image, image >> dropped << dropped)


def _histogram(image: UInt8[Array, "h w c"]) -> Float[Array, "c 256"]:
    """Returns how many pixels have each value, by channel."""
    channels = image.shape[-1]
    places = image + 256 * jnp.arange(channels)
    # Floats, which XLA adds faster; they are exact.
    counts = jnp.zeros(channels * 256).at[places].add(1, mode="promise_in_bounds")
    return counts.reshape(channels, 256)


def _stretch(
    image: UInt8[Array, "h w c"], counts: Float[Array, "c 256"]
) -> UInt8[Array, "h w c"]:
    """Returns the image with the values of each channel stretched to 0 to 255."""
    # XLA finds extremes of integers faster than those of floats.
    values = jnp.arange(256)
    low = jnp.where(counts > 0, values, 255).min(axis=1)
    high = jnp.where(counts > 0, values, 0).max(axis=1)
    scale = jnp.where(low == high, 1, (high - low) * (1 / 255))
    stretched = (image - jnp.where(low == high, 0, low)) / scale
    return jnp.clip(stretched, 0, 255).astype(jnp.uint8)


def _equalize(
    image: UInt8[Array, "h w c"], counts: Float[Array, "c 256"]
) -> UInt8[Array, "h w c"]:
    """Returns the image with all values of each channel about equally frequent."""
    size = image.shape[0] * image.shape[1]
    below = _count_below(counts)
    of_highest = jnp.where(below + counts == size, counts, 0).astype(jnp.int32)
    # How many pixels share a value; those of the highest one are not counted.
    step = jnp.floor((size - of_highest.max(axis=1)) / 255)
    rank = jax.vmap(_look_up, (0, 2), 2)(below, image)
    equalized = (rank + jnp.floor(step / 2)) / jnp.maximum(step, 1)
    equalized = jnp.clip(equalized, 0, 255).astype(jnp.uint8)
    return jnp.where(step > 0, equalized, image)


def _count_below(counts: Float[Array, "c 256"]) -> Float[Array, "c 256"]:
    """Returns how many pixels have a lower value than each."""
    # Within groups of 16 values and then of all lower groups: jnp.cumsum is slower.
    groups = counts.reshape(-1, 16, 16)
    lower = jnp.triu(jnp.ones((16, 16)), 1)
    within = jnp.matmul(groups, lower, precision="highest")
    totals = within[..., -1] + groups[..., -1]
    before = jnp.matmul(totals, lower, precision="highest")
    return (within + before[..., None]).reshape(-1, 256)


def _look_up(array: Shaped[Array, "n ..."], places: Integer[Array, "..."]) -> Array:
    """Returns array[places], without checks that the places exist."""
    return array.at[places].get(mode="promise_in_bounds")
