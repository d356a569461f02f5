"""Tests random erasing and random resized crops.

The golden values come from golden/make_augmentations.py.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distributions import SIGNIFICANCE, assert_equally_likely
from golden import augmentation_inputs as inputs
from scipy import stats

from cifar_jax import Config, UserError
from cifar_jax.data.distortions.base import Example
from cifar_jax.data.distortions.rectangles import (
    RandomErasing,
    RandomResizedCrop,
    crop_and_resize,
)

GOLDEN = np.load(pathlib.Path(__file__).parents[2] / "golden" / "augmentations.npz")
IMAGES = jnp.asarray(inputs.images())
KEYS = jax.random.split(jax.random.key(0), inputs.RECTANGLES)


def many(distortion, image, size=8):
    """Returns an image distorted once for each key."""
    example = Example(jnp.int32(0), jnp.int32(0), jax.random.key(0), size)
    distorted = jax.jit(jax.vmap(lambda key: distortion(key, image, example)))(KEYS)
    return np.asarray(distorted)


def assert_same_distribution(found, expected):
    """Asserts it by a chi-square test; rare values are pooled."""
    values, counts = np.unique(expected, return_counts=True)
    common = values[counts >= 20]
    tables = [
        [(draws == value).sum() for value in common]
        + [len(draws) - np.isin(draws, common).sum()]
        for draws in (np.asarray(found), np.asarray(expected))
    ]
    table = np.array(tables)
    assert stats.chi2_contingency(table[:, table.any(axis=0)]).pvalue > SIGNIFICANCE


@pytest.fixture(scope="module")
def erased():
    """Returns what is erased, [key, h, w]."""
    # No pixel has the mean of all.
    image = jnp.arange(480.0).reshape(inputs.HEIGHT, inputs.WIDTH, 1)
    found = many(RandomErasing(*inputs.ERASING), image)
    return (found != image).any(axis=-1)


def test_erased_rectangles_are_as_large_as_torchvisions(erased):
    heights = erased.any(axis=2).sum(axis=1)
    widths = erased.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(heights * widths, erased.sum(axis=(1, 2)))
    expected = GOLDEN["erased"].astype(int)
    assert_same_distribution(heights, expected[:, 0])
    assert_same_distribution(widths, expected[:, 1])
    assert_same_distribution(heights * widths // 20, expected.prod(axis=1) // 20)


def test_erased_rectangles_are_everywhere(erased):
    tops = erased.any(axis=2).argmax(axis=1)
    heights = erased.any(axis=2).sum(axis=1)
    middle = heights == 8
    assert_equally_likely(tops[middle], inputs.HEIGHT - 8 + 1)
    lefts = erased.any(axis=1).argmax(axis=1)
    widths = erased.any(axis=1).sum(axis=1)
    middle = widths == 8
    assert_equally_likely(lefts[middle], inputs.WIDTH - 8 + 1)


def test_an_image_without_room_for_a_rectangle_is_left_alone():
    image = IMAGES[0].astype(jnp.float32)
    found = many(RandomErasing(scale=(1.0, 1.0), ratio=(1.0, 1.0)), image)
    np.testing.assert_array_equal(found, np.broadcast_to(image, found.shape))


def test_rectangles_may_be_filled_with_random_bytes():
    image = jnp.full((20, 20, 3), -1.0)
    found = many(RandomErasing((0.3, 0.3), (1.0, 1.0), "random"), image)
    filling = found[found >= 0]
    assert filling.size == len(KEYS) * 11 * 11 * 3
    assert_equally_likely(filling[:20_000].astype(int), 256)


@pytest.mark.parametrize("number", range(len(inputs.CROPS)))
def test_resized_rectangles_are_torchvisions(number):
    top, left, height, width, size = inputs.CROPS[number]
    start, shape = jnp.array([top, left]), jnp.array([height, width])
    resize = functools.partial(crop_and_resize, start=start, size=shape, new_size=size)
    found = np.asarray(jax.vmap(resize)(IMAGES), int)
    # torchvision's weights for bytes are rounded.
    assert np.abs(found - GOLDEN[f"resized_{number}"]).max() <= 1


def test_random_resized_crops_are_as_large_as_torchvisions():
    # The number of a row and of a column, which resizing keeps evenly spaced.
    rows, columns = np.mgrid[: inputs.HEIGHT, : inputs.WIDTH]
    image = jnp.asarray(np.stack([12 * rows, 10 * columns], axis=-1), jnp.uint8)
    found = many(RandomResizedCrop(*inputs.CROPPING), image).astype(float)
    # Three of the eight new rows, without those at the edges.
    heights = np.rint((found[:, 5, 4, 0] - found[:, 2, 4, 0]) / 12 * 8 / 3)
    widths = np.rint((found[:, 4, 5, 1] - found[:, 4, 2, 1]) / 10 * 8 / 3)
    expected = GOLDEN["cropped"].astype(int)
    assert_same_distribution(heights, expected[:, 0])
    assert_same_distribution(widths, expected[:, 1])
    assert_same_distribution(heights * widths // 20, expected.prod(axis=1) // 20)


@pytest.mark.parametrize(
    ("ratio", "rows", "columns"),
    [((3.0, 4.0), slice(6, 14), slice(24)), ((0.2, 0.25), slice(20), slice(9, 14))],
)
def test_a_crop_that_never_fits_is_the_largest_central_one(ratio, rows, columns):
    crop = RandomResizedCrop(scale=(1.0, 1.0), ratio=ratio)
    found = many(crop, IMAGES[0], size=16)
    start = jnp.array([rows.start or 0, columns.start or 0])
    shape = jnp.array([rows.stop, columns.stop]) - start
    expected = crop_and_resize(IMAGES[0], start, shape, 16)
    difference = np.abs(found.astype(int) - np.asarray(expected, int))
    assert difference.max() <= 1


@pytest.mark.parametrize(
    "text",
    [
        "random_erasing(scale=(0.5, 0.2))",
        "random_erasing(ratio=(0, 1))",
        "random_erasing(value='black')",
        "random_resized_crop(scale=(0.5, 1.5))",
        "random_resized_crop(ratio=(2, 1))",
    ],
)
def test_impossible_rectangles_are_refused(text):
    with pytest.raises(UserError, match="must be"):
        Config(distortions=text)
