"""Tests the results and the distribution of each distortion."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from distributions import assert_equally_likely, assert_uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.lib.stride_tricks import sliding_window_view

from cifar_jax.data import augment

# The spacing of float32 numbers just below 256.
ULP = 2.0**-16

small_images = hnp.arrays(np.uint8, (6, 5, 3)).map(jnp.float32)
keys = st.integers(0, 2**32 - 1).map(jax.random.key)


def many_keys(count):
    return jax.random.split(jax.random.key(0), count)


def test_random_crop_takes_each_window_equally_often():
    rows, columns = np.indices((32, 32))
    image = jnp.stack([rows, columns], axis=-1).astype(jnp.uint8)
    crop = functools.partial(augment.random_crop, size=24)
    crops = jax.jit(jax.vmap(crop, (0, None)))(many_keys(20_000), image)
    top, left = np.asarray(crops)[:, 0, 0].astype(int).T
    # Uniform over pairs: each offset is uniform and the two are independent.
    assert_equally_likely(9 * top + left, outcomes=81)


@settings(max_examples=15)
@given(key=keys, height=st.integers(4, 9), width=st.integers(4, 9), data=st.data())
def test_random_crop_is_a_window_of_the_image(key, height, width, data):
    size = data.draw(st.integers(1, min(height, width)))
    image = jnp.asarray(np.random.RandomState(0).permutation(height * width * 2))
    image = image.reshape(height, width, 2)
    crop = np.asarray(augment.random_crop(key, image, size))
    windows = sliding_window_view(image, (size, size), axis=(0, 1))
    windows = windows.transpose(0, 1, 3, 4, 2).reshape(-1, size, size, 2)
    assert (windows == crop).all(axis=(1, 2, 3)).sum() == 1


def test_central_crop():
    image = jnp.arange(32 * 32 * 3).reshape(32, 32, 3)
    np.testing.assert_array_equal(augment.central_crop(image, 24), image[4:28, 4:28])


def test_corners():
    image = jnp.arange(32 * 32 * 3).reshape(32, 32, 3)
    starts = [(0, 0), (0, 8), (8, 0), (8, 8)]
    expected = [image[top : top + 24, left : left + 24] for top, left in starts]
    np.testing.assert_array_equal(augment.corners(image, 24), expected)


def test_random_brightness_adds_one_uniform_delta():
    image = jnp.zeros((3, 2, 3))
    brightened = jax.vmap(augment.random_brightness, (0, None))(
        many_keys(20_000), image
    )
    delta = brightened[:, 0, 0, 0]
    assert (brightened == delta[:, None, None, None]).all()
    assert_uniform(delta, -63, 63)


def test_random_brightness_clips_nothing():
    image = jnp.array([0.0, 255.0]).reshape(1, 2, 1)
    brighten = jax.jit(jax.vmap(augment.random_brightness, (0, None)))
    brightened = np.asarray(brighten(many_keys(99), image))
    assert brightened.min() < -50
    assert brightened.max() > 305
    np.testing.assert_allclose(
        brightened[:, 0, 1] - brightened[:, 0, 0], 255, rtol=1e-6
    )


def test_random_contrast_scales_by_a_uniform_factor():
    # Values lie 1 above and below the channel means of 100 and 0.
    image = jnp.array([[[101.0, 1.0]], [[99.0, -1.0]]])
    scaled = jax.vmap(augment.random_contrast, (0, None))(many_keys(20_000), image)
    factor = scaled[:, 0, 0, 1]
    assert_uniform(factor, 0.2, 1.8)
    for distances in (scaled[..., 1], scaled[..., 0] - 100):
        np.testing.assert_allclose(distances[:, 0, 0], factor, atol=ULP)
        np.testing.assert_allclose(distances[:, 1, 0], -factor, atol=ULP)


@given(image=small_images, factor=st.floats(0.2, 1.8))
def test_adjust_contrast_keeps_each_channels_mean(image, factor):
    mean = image.astype(float).mean(axis=(0, 1))
    expected = (image - mean) * factor + mean
    adjusted = augment.adjust_contrast(image, factor)
    np.testing.assert_allclose(adjusted, expected, atol=3 * ULP)


@given(image=small_images)
def test_contrast_factor_one_is_the_identity(image):
    np.testing.assert_allclose(augment.adjust_contrast(image, 1.0), image, atol=ULP)


@given(image=small_images)
def test_standardize_gives_mean_zero_and_deviation_one(image):
    stddev = image.astype(float).std()
    divisor = max(stddev, 1 / np.sqrt(image.size))
    standardized = np.asarray(augment.standardize(image), float)
    # float32 may lose the last digit of the mean and of each result.
    assert abs(standardized.mean()) < ULP / divisor
    np.testing.assert_allclose(
        standardized.std(), stddev / divisor, rtol=1e-5, atol=1e-6
    )
    expected = (image - image.mean(dtype=float)) / divisor
    np.testing.assert_allclose(standardized, expected, rtol=3e-6, atol=ULP / divisor)
