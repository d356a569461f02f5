"""Image distortions, as pure functions of (key, image).

Every function takes one float32 image with values in 0..255; intermediate values may
leave that range, because nothing is clipped. `jax.vmap` gives the batched form. The
ranges are those of `distorted_inputs` in TensorFlow's cifar10_input.py.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num, Scalar


def random_crop(
    key: Key[Array, ""], image: Num[Array, "h w c"], size: int
) -> Num[Array, "{size} {size} c"]:
    """Crops a size x size window, with both offsets uniform over all that fit."""
    height, width, channels = image.shape
    offsets = jax.random.randint(
        key, (2,), 0, jnp.array([height - size + 1, width - size + 1])
    )
    return jax.lax.dynamic_slice(image, (*offsets, 0), (size, size, channels))


def central_crop(
    image: Num[Array, "h w c"], size: int
) -> Num[Array, "{size} {size} c"]:
    """Crops the central size x size window (at offset 4 for 24 out of 32)."""
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def corners(
    image: Num[Array, "h w c"], size: int
) -> list[Num[Array, "{size} {size} c"]]:
    """Crops the size x size windows in the four corners."""
    rows = (image[:size], image[image.shape[0] - size :])
    left, right = slice(size), slice(image.shape[1] - size, None)
    return [row[:, side] for row in rows for side in (left, right)]


def adjust_contrast(
    image: Float[Array, "h w c"], factor: float | Float[Scalar, ""]
) -> Float[Array, "h w c"]:
    """Scales each channel's distance from its own mean over the image by factor."""
    mean = image.mean(axis=(0, 1))
    return (image - mean) * factor + mean


def random_brightness(
    key: Key[Array, ""], image: Float[Array, "h w c"], max_delta: float = 63.0
) -> Float[Array, "h w c"]:
    """Adds a single delta ~ U[-max_delta, max_delta) to the whole image."""
    return image + jax.random.uniform(key, minval=-max_delta, maxval=max_delta)


def random_contrast(
    key: Key[Array, ""],
    image: Float[Array, "h w c"],
    lower: float = 0.2,
    upper: float = 1.8,
) -> Float[Array, "h w c"]:
    """Applies `adjust_contrast` with a factor ~ U[lower, upper)."""
    return adjust_contrast(image, jax.random.uniform(key, minval=lower, maxval=upper))


def standardize(image: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
    """Shifts to mean 0 and scales to standard deviation 1 over all h*w*c values.

    The divisor is at least 1/sqrt(h*w*c), so a uniformly gray image becomes all zeros
    (`tf.image.per_image_standardization`).
    """
    centered = image - image.mean()
    # Two passes: E[x^2] - E[x]^2 would cancel badly in float32 at values near 255.
    stddev = jnp.sqrt(jnp.mean(centered**2))
    return centered / jnp.maximum(stddev, image.size**-0.5)
