"""The distortions: what they compute, and how their draws are distributed.

Seeds are fixed, so a p-value below `SIGNIFICANCE` means a wrong distribution, not bad
luck.
"""

import functools
from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.lib.stride_tricks import sliding_window_view
from scipy import stats

from cifar_jax.data import augment

SIGNIFICANCE = 1e-3
STEPS, BATCH_SIZE = 64, 128
# The spacing of float32 numbers just below 256.
ULP = 2.0**-16

small_images = hnp.arrays(np.uint8, (6, 5, 3)).map(lambda image: image.astype("f4"))
keys = st.integers(0, 2**32 - 1).map(jax.random.key)


def many_keys(count):
    return jax.random.split(jax.random.key(0), count)


def assert_uniform(draws, low, high):
    draws = np.asarray(draws).ravel()
    width = high - low
    assert low <= draws.min() < low + 1e-3 * width
    assert high - 1e-3 * width < draws.max() < high
    uniform = stats.uniform(loc=low, scale=width)
    assert stats.kstest(draws, uniform.cdf).pvalue > SIGNIFICANCE


def assert_equally_likely(draws, outcomes):
    """Each of 0, 1, ..., outcomes - 1 occurs as often, by a chi-square test."""
    draws = np.asarray(draws).ravel()
    assert draws.min() >= 0
    assert draws.max() < outcomes
    counts = np.bincount(draws, minlength=outcomes)
    assert stats.chisquare(counts).pvalue > SIGNIFICANCE


def assert_independent(first, second):
    """By a chi-square test on the table of how often each pair occurs."""
    table = stats.contingency.crosstab(np.ravel(first), np.ravel(second)).count
    assert stats.chi2_contingency(table).pvalue > SIGNIFICANCE


# One distortion at a time.


def test_random_crop_takes_each_window_equally_often():
    rows, columns = np.indices((32, 32))
    image = np.stack([rows, columns], axis=-1).astype(np.uint8)
    crops = jax.vmap(augment.random_crop, (0, None))(many_keys(20_000), image)
    top, left = np.asarray(crops[:, 0, 0], int).T
    # Uniform over the pairs: each offset uniform, and the two independent.
    assert_equally_likely(9 * top + left, outcomes=81)


@settings(deadline=None, max_examples=15)
@given(key=keys, height=st.integers(4, 9), width=st.integers(4, 9), data=st.data())
def test_random_crop_is_a_window_of_the_image(key, height, width, data):
    size = data.draw(st.integers(1, min(height, width)))
    image = np.random.RandomState(0).permutation(height * width * 2)
    image = image.reshape(height, width, 2)
    crop = np.asarray(augment.random_crop(key, image, size))
    windows = sliding_window_view(image, (size, size), axis=(0, 1))
    windows = windows.transpose(0, 1, 3, 4, 2).reshape(-1, size, size, 2)
    assert (windows == crop).all(axis=(1, 2, 3)).sum() == 1


def test_central_crop():
    image = np.arange(32 * 32 * 3).reshape(32, 32, 3)
    np.testing.assert_array_equal(augment.central_crop(image), image[4:28, 4:28])


def test_random_flip_mirrors_half_of_the_images():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    flipped = jax.vmap(augment.random_flip, (0, None))(many_keys(20_000), image)
    mirrored = (flipped == image[:, ::-1]).all(axis=(1, 2, 3))
    assert (mirrored | (flipped == image).all(axis=(1, 2, 3))).all()
    assert_equally_likely(mirrored.astype(int), outcomes=2)


@settings(deadline=None)
@given(key=keys, image=small_images)
def test_random_flip_twice_is_the_identity(key, image):
    twice = augment.random_flip(key, augment.random_flip(key, image))
    np.testing.assert_array_equal(twice, image)


def test_random_brightness_adds_one_uniform_delta():
    image = np.zeros((3, 2, 3), np.float32)
    brightened = jax.vmap(augment.random_brightness, (0, None))(
        many_keys(20_000), image
    )
    delta = brightened[:, 0, 0, 0]
    assert (brightened == delta[:, None, None, None]).all()
    assert_uniform(delta, -63, 63)


def test_random_brightness_clips_nothing():
    image = jnp.array([0.0, 255.0]).reshape(1, 2, 1)
    brightened = jax.vmap(augment.random_brightness, (0, None))(many_keys(99), image)
    assert brightened.min() < -50
    assert brightened.max() > 305
    np.testing.assert_allclose(
        brightened[:, 0, 1] - brightened[:, 0, 0], 255, rtol=1e-6
    )


def test_random_contrast_scales_by_a_uniform_factor():
    # Distances 1 and -1 from the means 100 and 0.
    image = jnp.array([[[101.0, 1.0]], [[99.0, -1.0]]])
    scaled = jax.vmap(augment.random_contrast, (0, None))(many_keys(20_000), image)
    factor = scaled[:, 0, 0, 1]
    assert_uniform(factor, 0.2, 1.8)
    for distances in (scaled[..., 1], scaled[..., 0] - 100):
        np.testing.assert_allclose(distances[:, 0, 0], factor, atol=ULP)
        np.testing.assert_allclose(distances[:, 1, 0], -factor, atol=ULP)


@settings(deadline=None)
@given(image=small_images, factor=st.floats(0.2, 1.8))
def test_adjust_contrast_keeps_each_channels_mean(image, factor):
    mean = image.astype(float).mean(axis=(0, 1))
    expected = (image - mean) * factor + mean
    adjusted = augment.adjust_contrast(image, factor)
    np.testing.assert_allclose(adjusted, expected, atol=3 * ULP)


@settings(deadline=None)
@given(image=small_images)
def test_contrast_factor_one_is_the_identity(image):
    np.testing.assert_allclose(augment.adjust_contrast(image, 1.0), image, atol=ULP)


@settings(deadline=None)
@given(image=small_images)
def test_standardize_gives_mean_zero_and_deviation_one(image):
    stddev = image.astype(float).std()
    divisor = max(stddev, 1 / np.sqrt(image.size))
    standardized = np.asarray(augment.standardize(image), float)
    # What float32 may lose: the last digit of the mean, and of each result.
    assert abs(standardized.mean()) < ULP / divisor
    np.testing.assert_allclose(
        standardized.std(), stddev / divisor, rtol=1e-5, atol=1e-6
    )
    expected = (image - image.mean(dtype=float)) / divisor
    np.testing.assert_allclose(standardized, expected, rtol=3e-6, atol=ULP / divisor)


@pytest.mark.parametrize("colour", [(0, 0, 0), (173, 173, 173)])
def test_an_image_of_one_value_becomes_zeros(colour):
    image = np.full((32, 32, 3), colour, np.uint8)
    np.testing.assert_array_equal(augment.center(image), 0)


# All distortions together.


class Draws(NamedTuple):
    """What `distort` drew for each image, as [STEPS, BATCH_SIZE] arrays."""

    crop: np.ndarray  # 9 * top + left
    flip: np.ndarray
    brightness: np.ndarray
    contrast: np.ndarray


def coded_image():
    """The first channel is noise, which tells the crop and flip; the last is flat."""
    image = np.empty((32, 32, 3), np.uint8)
    image[..., 0] = np.random.RandomState(0).randint(256, size=(32, 32))
    image[..., 1:] = [50, 150]
    return image


def decode(outputs, image):
    """The draws that make `outputs` of `coded_image`, before standardisation."""
    windows = sliding_window_view(image[..., 0].astype(float), (24, 24))
    # Candidate 2 * crop + flip.
    candidates = np.stack([windows, windows[..., ::-1]], axis=2).reshape(162, -1)
    candidates -= candidates.mean(axis=1, keepdims=True)
    spread = np.linalg.norm(candidates, axis=1)

    noise = outputs[..., 0].reshape(*outputs.shape[:-3], -1)
    noise = noise - noise.mean(axis=-1, keepdims=True)
    best = (noise @ (candidates / spread[:, None]).T).argmax(axis=-1)
    return Draws(
        crop=best // 2,
        flip=best % 2,
        brightness=outputs[..., 0, 0, 2] - image[0, 0, 2],
        contrast=np.linalg.norm(noise, axis=-1) / spread[best],
    )


@pytest.fixture(scope="module")
def draws():
    """The draws of a training run, its keys made as train_step makes them."""
    image = coded_image()

    def step_outputs(step):
        step_key = jax.random.fold_in(jax.random.key(0), step)
        positions = jnp.arange(BATCH_SIZE)
        image_keys = jax.vmap(jax.random.fold_in, (None, 0))(step_key, positions)
        return jax.vmap(augment.distort, (0, None))(image_keys, image)

    with pytest.MonkeyPatch.context() as patch:
        # It takes the mean away, and with it every trace of the brightness.
        patch.setattr(augment, "standardize", lambda image: image)
        outputs = jax.lax.map(step_outputs, jnp.arange(STEPS))
    return decode(np.asarray(outputs, float), image)


def test_distort_draws_are_distributed_as_in_the_tutorial(draws):
    assert_equally_likely(draws.crop, outcomes=81)
    assert_equally_likely(draws.flip, outcomes=2)
    assert_uniform(draws.brightness, -63, 63)
    assert_uniform(draws.contrast, 0.2, 1.8)


def coarse(draws):
    """The draws in at most nine classes each, for tables of pairs."""
    brightness = np.floor(draws.brightness / 21)
    contrast = np.floor(draws.contrast / 0.4)
    return [draws.crop // 9, draws.crop % 9, draws.flip, brightness, contrast]


def test_distort_draws_of_one_image_are_independent(draws):
    for first, second in combinations(coarse(draws), 2):
        assert_independent(first, second)


def test_distort_draws_of_neighbours_in_the_batch_are_independent(draws):
    for draw in coarse(draws):
        assert_independent(draw[:, :-1], draw[:, 1:])


def test_distort_draws_of_successive_steps_are_independent(draws):
    for draw in coarse(draws):
        assert_independent(draw[:-1], draw[1:])


def test_distort_is_the_distortions_in_the_tutorials_order():
    image = coded_image()
    for key in many_keys(8):
        crop_key, flip_key, brightness_key, contrast_key = jax.random.split(key, 4)
        expected = augment.random_crop(crop_key, image.astype(np.float32))
        expected = augment.random_flip(flip_key, expected)
        expected = augment.random_brightness(brightness_key, expected)
        expected = augment.random_contrast(contrast_key, expected)
        expected = augment.standardize(expected)
        np.testing.assert_allclose(augment.distort(key, image), expected, atol=1e-5)


@pytest.mark.parametrize(
    "prepare", [functools.partial(augment.distort, jax.random.key(0)), augment.center]
)
def test_bytes_become_float32(prepare):
    output = prepare(jnp.asarray(coded_image()))
    assert output.shape == (24, 24, 3)
    assert output.dtype == jnp.float32
