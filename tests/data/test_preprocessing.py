"""Tests the complete preprocessing of training and evaluation images."""

import functools
from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distributions import assert_equally_likely, assert_independent, assert_uniform
from helpers import OnDisk
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from cifar_jax import Config, UserError
from cifar_jax.data import augment
from cifar_jax.data.normalization import NORMALIZATIONS

STEPS, BATCH_SIZE = 64, 128
TUTORIAL = Config().preprocessing
WHOLE = Config(image_size=32, distortions="").preprocessing


def many_keys(count):
    return jax.random.split(jax.random.key(0), count)


def center(preprocessing, image, statistics=None):
    (view,) = preprocessing.prepare_eval(jnp.asarray(image), statistics)
    return view


def training(preprocessing, key, image, statistics=None, epoch=0, index=0):
    image, epoch, index = jnp.asarray(image), jnp.int32(epoch), jnp.int32(index)
    root = jax.random.key(0)
    return preprocessing.prepare_train(key, image, epoch, index, root, statistics)


@pytest.mark.parametrize("color", [(0, 0, 0), (173, 173, 173)])
def test_an_image_of_one_value_becomes_zeros(color):
    image = np.full((32, 32, 3), color, np.uint8)
    np.testing.assert_array_equal(center(TUTORIAL, image), 0)


class Draws(NamedTuple):
    """Random draws for each image, as [STEPS, BATCH_SIZE] arrays."""

    crop: np.ndarray  # 9 * top + left
    flip: np.ndarray
    brightness: np.ndarray
    contrast: np.ndarray


def coded_image():
    """Returns an image with noise in the first channel, which reveals crop and flip.

    The other channels are constant.
    """
    image = np.empty((32, 32, 3), np.uint8)
    image[..., 0] = np.random.RandomState(0).randint(256, size=(32, 32))
    image[..., 1:] = [50, 150]
    return image


def decode(outputs, image):
    """Returns the draws that turn `coded_image` into unstandardized `outputs`."""
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
    """Returns the draws of a training run whose keys are derived as in train_step."""
    image = coded_image()

    def step_outputs(step):
        step_key = jax.random.fold_in(jax.random.key(0), step)
        positions = jnp.arange(BATCH_SIZE)
        image_keys = jax.vmap(jax.random.fold_in, (None, 0))(step_key, positions)
        distort = jax.vmap(functools.partial(training, TUTORIAL), (0, None))
        return distort(image_keys, image)

    with pytest.MonkeyPatch.context() as patch:
        # Standardization subtracts the mean, and with it every trace of the brightness.
        patch.setattr(augment, "standardize", lambda image: image)
        outputs = jax.lax.map(step_outputs, jnp.arange(STEPS))
    return decode(np.asarray(outputs, float), image)


def test_draws_are_distributed_as_in_the_tutorial(draws):
    assert_equally_likely(draws.crop, outcomes=81)
    assert_equally_likely(draws.flip, outcomes=2)
    assert_uniform(draws.brightness, -63, 63)
    assert_uniform(draws.contrast, 0.2, 1.8)


def coarse(draws):
    """Returns the draws binned into at most nine classes each, for pair tables."""
    brightness = np.floor(draws.brightness / 21)
    contrast = np.floor(draws.contrast / 0.4)
    return [draws.crop // 9, draws.crop % 9, draws.flip, brightness, contrast]


def test_draws_of_one_image_are_independent(draws):
    for first, second in combinations(coarse(draws), 2):
        assert_independent(first, second)


def test_draws_of_neighbors_in_the_batch_are_independent(draws):
    for draw in coarse(draws):
        assert_independent(draw[:, :-1], draw[:, 1:])


def test_draws_of_successive_steps_are_independent(draws):
    for draw in coarse(draws):
        assert_independent(draw[:-1], draw[1:])


def test_training_distorts_in_the_tutorials_order():
    image = coded_image()
    for key in many_keys(8):
        crop_key, flip_key, brightness_key, contrast_key = jax.random.split(key, 4)
        expected = augment.random_crop(crop_key, jnp.float32(image), 24)
        mirrored = jax.random.bernoulli(flip_key)
        expected = jnp.where(mirrored, expected[:, ::-1], expected)
        expected = augment.random_brightness(brightness_key, expected)
        expected = augment.random_contrast(contrast_key, expected)
        expected = augment.standardize(expected)
        distorted = training(TUTORIAL, key, image)
        np.testing.assert_allclose(distorted, expected, atol=1e-5)


def test_bytes_become_float32():
    image = jnp.asarray(coded_image())
    key = jax.random.key(0)
    for output in (training(TUTORIAL, key, image), center(TUTORIAL, image)):
        assert output.shape == (24, 24, 3)
        assert output.dtype == jnp.float32


# Other recipes.


def images(count=7):
    return np.random.RandomState(0).randint(
        256, size=(count, 32, 32, 3), dtype=np.uint8
    )


def variant(distortions="", **changes):
    return Config(
        **{"image_size": 32, "distortions": distortions} | changes
    ).preprocessing


def test_each_distortion_can_be_left_out():
    image, plain = images()[0], center(WHOLE, images()[0])
    for key in many_keys(4):
        np.testing.assert_array_equal(training(WHOLE, key, image), plain)
    for distortion in (
        *("flip", "contrast", "brightness", "crop(padding=4)"),
        *("translate", "cutout"),
    ):
        preprocessing = variant(distortion, normalization="channel")
        statistics = preprocessing.statistics(images())
        seen = {
            np.asarray(training(preprocessing, key, image, statistics)).tobytes()
            for key in many_keys(8)
        }
        assert len(seen) > 1, distortion


def test_leaving_one_out_does_not_change_the_draws_of_others():
    image = images()[0]
    for key in many_keys(4):
        without = variant("crop(padding=4), contrast", normalization="mean_image")
        crop, _, _, contrast = jax.random.split(key, 4)
        framed = jnp.pad(image, [(4, 4), (4, 4), (0, 0)])
        expected = augment.random_crop(crop, framed, 32)
        expected = augment.random_contrast(contrast, expected.astype(jnp.float32))
        statistics = without.statistics(np.zeros((1, 32, 32, 3), np.uint8))
        found = training(without, key, image, statistics)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_repeated_distortion_draws_twice():
    twice = variant("brightness, brightness", normalization="mean_image")
    statistics = twice.statistics(np.zeros((1, 32, 32, 3), np.uint8))
    image = images()[0]
    for key in many_keys(4):
        shift = training(twice, key, image, statistics)[0, 0, 0] - image[0, 0, 0]
        once = augment.random_brightness(
            jax.random.split(key, 4)[2], jnp.zeros((1, 1, 1))
        )
        assert abs(float(shift - 2 * once[0, 0, 0])) > 1e-3


def test_padded_crops_are_windows_of_the_image_in_a_black_frame():
    inputs = variant("crop(padding=4)", normalization="mean_image")
    # The mean image is 0, so that pixels pass unchanged.
    statistics = inputs.statistics(np.zeros((1, 32, 32, 3), np.uint8))
    image = images()[0]
    framed = np.pad(image, [(4, 4), (4, 4), (0, 0)])
    windows = {
        framed[top : top + 32, left : left + 32].astype(np.float32).tobytes()
        for top in range(9)
        for left in range(9)
    }
    distort = jax.jit(
        jax.vmap(functools.partial(training, inputs), (0, None, None, None, None))
    )
    crops = np.asarray(distort(many_keys(400), image, statistics, 0, 0))
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


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("caffe", [255 - 103.939, 51 - 116.779, 0 - 123.68]),
        ("tf", [-1, -0.6, 1]),
        ("torch", [-0.485 / 0.229, (0.2 - 0.456) / 0.224, (1 - 0.406) / 0.225]),
    ],
)
def test_normalizations_of_keras(mode, expected):
    image = np.full((32, 32, 3), [0, 51, 255], np.uint8)
    inputs = center(variant(normalization=mode), image)
    np.testing.assert_allclose(inputs[5, 7], expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_normalizations_equal_those_of_keras(keras, mode):
    from keras.src.applications import imagenet_utils

    image = images()[0]
    inputs = center(variant(normalization=mode), image)
    expected = imagenet_utils.preprocess_input(image.astype(np.float32), mode=mode)
    np.testing.assert_allclose(inputs, expected, atol=2e-5)


def test_statistics_of_images_of_one_color_divide_by_one():
    gray = np.full((3, 32, 32, 3), 77, np.uint8)
    inputs = variant(normalization="channel")
    np.testing.assert_array_equal(center(inputs, gray[0], inputs.statistics(gray)), 0)


def test_the_center_of_the_mean_image_is_subtracted_from_every_crop():
    inputs = variant("crop", image_size=24, normalization="mean_image")
    statistics = inputs.statistics(images())
    mean = images().astype(float).mean(axis=0)[4:28, 4:28]
    np.testing.assert_allclose(
        center(inputs, images()[0], statistics),
        images()[0][4:28, 4:28] - mean,
        atol=1e-4,
    )
    key = jax.random.key(1)
    crop = augment.random_crop(
        jax.random.split(key, 4)[0], jnp.asarray(images()[0]), 24
    )
    np.testing.assert_allclose(
        training(inputs, key, images()[0], statistics), crop - mean, atol=1e-4
    )


def test_ten_views_are_corners_and_center_and_their_mirror_images():
    image = jnp.asarray(images()[0])
    two, ten = (
        variant(image_size=24, distortions="crop", views=views).prepare_eval(
            image, None
        )
        for views in ("mirror", "ten_crops")
    )
    starts = [(4, 4), (0, 0), (0, 8), (8, 0), (8, 8)]
    crops = [image[top : top + 24, left : left + 24] for top, left in starts]
    expected = [augment.standardize(jnp.float32(crop)) for crop in crops]
    expected += [view[:, ::-1] for view in expected]
    np.testing.assert_allclose(ten, expected, atol=1e-6)
    np.testing.assert_allclose(two, [expected[0], expected[5]], atol=1e-6)


def test_missing_statistics_are_an_error():
    with pytest.raises(ValueError, match="needs statistics"):
        center(variant(normalization="channel"), images()[0])


def test_shifted_mirrors_are_six_views():
    image = jnp.asarray(images()[0])
    views = variant(views="shifted_mirrors").prepare_eval(image, None)
    framed = np.pad(image, [(1, 1), (1, 1), (0, 0)], mode="reflect")
    crops = [framed[i : i + 32, i : i + 32] for i in (1, 0, 2)]
    expected = [augment.standardize(jnp.float32(crop)) for crop in crops]
    expected += [view[:, ::-1] for view in expected]
    np.testing.assert_allclose(views, expected, atol=1e-6)


def test_views_are_combined_by_their_mean_probabilities():
    logits = jnp.asarray(np.random.RandomState(0).standard_normal((3, 10, 5)))
    combined = variant(views="ten_crops").views.combine(logits)
    expected = np.log(jax.nn.softmax(logits).mean(axis=1))
    np.testing.assert_allclose(combined, expected, atol=1e-6)


def test_shifted_mirrors_are_combined_as_by_airbench():
    # Half the central views' logits, half those of the four shifted ones.
    logits = np.random.RandomState(0).standard_normal((3, 6, 5))
    combined = variant(views="shifted_mirrors").views.combine(jnp.asarray(logits))
    central, shifted = logits[:, [0, 3]], logits[:, [1, 2, 4, 5]]
    expected = 0.5 * central.mean(axis=1) + 0.5 * shifted.mean(axis=1)
    np.testing.assert_allclose(combined, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "shape", "message"),
    [
        ({"distortions": "flip"}, (40, 32, 3), "of 40x32, but 32x32 is needed"),
        (
            {"distortions": "flip", "image_size": 48},
            (40, 32, 3),
            "of 40x32, but 32x32 is needed for --image_size=48",
        ),
    ],
)
def test_sizes_that_do_not_match_are_refused(changes, shape, message):
    with pytest.raises(UserError, match=message):
        variant(**{"distortions": "center_crop"} | changes).check(shape)


def test_images_that_are_not_square_are_cropped():
    preprocessing = variant("crop", image_size=20)
    preprocessing.check((24, 40, 3))
    image = np.zeros((24, 40, 3), np.uint8)
    assert training(preprocessing, jax.random.key(0), image).shape == (20, 20, 3)


@pytest.mark.parametrize("normalization", ["image", "channel", "mean_image"])
def test_small_images_are_enlarged_after_all_else(normalization):
    small = variant("crop, flip", normalization=normalization)
    large = variant("crop, flip", normalization=normalization, image_size=75)
    large.check((32, 32, 3))
    statistics = small.statistics(images())
    key, image = jax.random.key(1), images()[0]
    inputs = [training(p, key, image, statistics=statistics) for p in (small, large)]
    views = [p.prepare_eval(jnp.asarray(image), statistics)[0] for p in (small, large)]
    for before, after in (inputs, views):
        # Pillow is the reference.
        channels = [
            Image.fromarray(np.asarray(before[..., channel])).resize(
                (75, 75), Image.Resampling.BILINEAR
            )
            for channel in range(3)
        ]
        bound = 5e-6 * np.abs(after).max()
        np.testing.assert_allclose(after, np.dstack(channels), atol=bound)


def test_mixtures_must_come_last():
    with pytest.raises(UserError, match="mixup, cutmix, choice mix whole batches"):
        Config(distortions="crop, mixup, flip")


@pytest.mark.parametrize("name", ["channel", "mean_image"])
def test_statistics_are_taken_of_blocks_of_images(monkeypatch, name):
    pixels = np.random.default_rng(0).integers(0, 256, (25, 4, 4, 3), np.uint8)
    whole = NORMALIZATIONS[name]().statistics(pixels)
    monkeypatch.setattr("cifar_jax.data.arrays.BYTES_PER_BLOCK", 10 * 4 * 4 * 3)
    on_disk = OnDisk(pixels)
    parts = NORMALIZATIONS[name]().statistics(on_disk)
    assert [len(read) for read in on_disk.read] == [10, 10, 5]
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_mean_image_has_the_bits_of_numpys_mean():
    mean = NORMALIZATIONS["mean_image"]().statistics(images()).mean
    expected = images().mean(axis=0, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(mean, expected)
