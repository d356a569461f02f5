"""What networks see, in training and evaluation: all distortions together."""

import dataclasses
from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distributions import assert_equally_likely, assert_independent, assert_uniform
from numpy.lib.stride_tricks import sliding_window_view

from cifar_jax import Config
from cifar_jax.data import augment

STEPS, BATCH_SIZE = 64, 128
TUTORIAL = Config().inputs
WHOLE = dataclasses.replace(
    TUTORIAL,
    size=32,
    random_crop=False,
    random_flip=False,
    brightness=0.0,
    contrast=0.0,
)


def many_keys(count):
    return jax.random.split(jax.random.key(0), count)


def center(inputs, image, statistics=None):
    (view,) = inputs.evaluation(jnp.asarray(image), statistics)
    return view


@pytest.mark.parametrize("colour", [(0, 0, 0), (173, 173, 173)])
def test_an_image_of_one_value_becomes_zeros(colour):
    image = np.full((32, 32, 3), colour, np.uint8)
    np.testing.assert_array_equal(center(TUTORIAL, image), 0)


class Draws(NamedTuple):
    """What `Inputs.training` drew for each image, as [STEPS, BATCH_SIZE] arrays."""

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
        return jax.vmap(TUTORIAL.training, (0, None, None))(image_keys, image, None)

    with pytest.MonkeyPatch.context() as patch:
        # It takes the mean away, and with it every trace of the brightness.
        patch.setattr(augment, "standardize", lambda image: image)
        outputs = jax.lax.map(step_outputs, jnp.arange(STEPS))
    return decode(np.asarray(outputs, float), image)


def test_draws_are_distributed_as_in_the_tutorial(draws):
    assert_equally_likely(draws.crop, outcomes=81)
    assert_equally_likely(draws.flip, outcomes=2)
    assert_uniform(draws.brightness, -63, 63)
    assert_uniform(draws.contrast, 0.2, 1.8)


def coarse(draws):
    """The draws in at most nine classes each, for tables of pairs."""
    brightness = np.floor(draws.brightness / 21)
    contrast = np.floor(draws.contrast / 0.4)
    return [draws.crop // 9, draws.crop % 9, draws.flip, brightness, contrast]


def test_draws_of_one_image_are_independent(draws):
    for first, second in combinations(coarse(draws), 2):
        assert_independent(first, second)


def test_draws_of_neighbours_in_the_batch_are_independent(draws):
    for draw in coarse(draws):
        assert_independent(draw[:, :-1], draw[:, 1:])


def test_draws_of_successive_steps_are_independent(draws):
    for draw in coarse(draws):
        assert_independent(draw[:-1], draw[1:])


def test_is_the_distortions_in_the_tutorials_order():
    image = coded_image()
    for key in many_keys(8):
        crop_key, flip_key, brightness_key, contrast_key = jax.random.split(key, 4)
        expected = augment.random_crop(crop_key, image.astype(np.float32), 24)
        expected = augment.random_flip(flip_key, expected)
        expected = augment.random_brightness(brightness_key, expected)
        expected = augment.random_contrast(contrast_key, expected)
        expected = augment.standardize(expected)
        distorted = TUTORIAL.training(key, image, None)
        np.testing.assert_allclose(distorted, expected, atol=1e-5)


def test_bytes_become_float32():
    image = jnp.asarray(coded_image())
    key = jax.random.key(0)
    for output in (TUTORIAL.training(key, image, None), center(TUTORIAL, image)):
        assert output.shape == (24, 24, 3)
        assert output.dtype == jnp.float32


# Other recipes.


def images(count=7):
    return np.random.RandomState(0).randint(
        256, size=(count, 32, 32, 3), dtype=np.uint8
    )


def variant(**changes):
    return dataclasses.replace(WHOLE, **changes)


def test_each_distortion_can_be_left_out():
    image, plain = images()[0], center(WHOLE, images()[0])
    for key in many_keys(4):
        np.testing.assert_array_equal(WHOLE.training(key, image, None), plain)
    for changes in (
        {"random_flip": True},
        {"contrast": 0.8, "normalization": "channel"},
        {"brightness": 63.0, "normalization": "channel"},
        {"random_crop": True, "padding": 4},
    ):
        inputs = variant(**changes)
        statistics = inputs.statistics(images())
        seen = {
            np.asarray(inputs.training(key, image, statistics)).tobytes()
            for key in many_keys(8)
        }
        assert len(seen) > 1, changes


def test_padded_crops_are_windows_of_the_image_in_a_black_frame():
    inputs = variant(random_crop=True, padding=4, normalization="mean_image")
    # Whose mean is 0, so that bytes come through.
    statistics = inputs.statistics(np.zeros((1, 32, 32, 3), np.uint8))
    image = images()[0]
    framed = np.pad(image, [(4, 4), (4, 4), (0, 0)])
    windows = {
        framed[top : top + 32, left : left + 32].astype(np.float32).tobytes()
        for top in range(9)
        for left in range(9)
    }
    training = jax.jit(jax.vmap(inputs.training, (0, None, None)))
    crops = np.asarray(training(many_keys(400), image, statistics))
    seen = {crop.tobytes() for crop in crops}
    assert seen <= windows
    assert len(seen) > 70


def test_channels_of_the_training_set_get_mean_zero_and_deviation_one():
    inputs = variant(normalization="channel")
    statistics = inputs.statistics(images())
    expected = images().mean(axis=(0, 1, 2)), images().std(axis=(0, 1, 2))
    np.testing.assert_allclose(statistics.mean[5, 9], expected[0], rtol=1e-6)
    np.testing.assert_allclose(statistics.stddev, expected[1], rtol=1e-6)
    outputs = np.stack([center(inputs, image, statistics) for image in images()])
    np.testing.assert_allclose(outputs.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(outputs.std(axis=(0, 1, 2)), 1, rtol=1e-5)


def test_statistics_of_images_of_one_colour_divide_by_one():
    grey = np.full((3, 32, 32, 3), 77, np.uint8)
    inputs = variant(normalization="channel")
    np.testing.assert_array_equal(center(inputs, grey[0], inputs.statistics(grey)), 0)


def test_the_mean_image_is_subtracted_by_its_centre_wherever_the_crop_is():
    inputs = variant(size=24, random_crop=True, normalization="mean_image")
    statistics = inputs.statistics(images())
    mean = images().astype(float).mean(axis=0)[4:28, 4:28]
    np.testing.assert_allclose(
        center(inputs, images()[0], statistics),
        images()[0][4:28, 4:28] - mean,
        atol=1e-4,
    )
    key = jax.random.key(1)
    crop = augment.random_crop(jax.random.split(key, 4)[0], images()[0], 24)
    np.testing.assert_allclose(
        inputs.training(key, images()[0], statistics), crop - mean, atol=1e-4
    )


def test_ten_views_are_corners_and_centre_and_their_mirror_images():
    image = images()[0]
    two, ten = (
        variant(size=24, views=views).evaluation(image, None) for views in (2, 10)
    )
    starts = [(4, 4), (0, 0), (0, 8), (8, 0), (8, 8)]
    crops = [image[top : top + 24, left : left + 24] for top, left in starts]
    expected = [augment.standardize(jnp.float32(crop)) for crop in crops]
    expected += [view[:, ::-1] for view in expected]
    np.testing.assert_allclose(ten, expected, atol=1e-6)
    np.testing.assert_allclose(two, [expected[0], expected[5]], atol=1e-6)


def test_what_needs_statistics_says_so():
    with pytest.raises(ValueError, match="'channel' needs statistics"):
        center(variant(normalization="channel"), images()[0])
