"""Tests distortions of colors against torchvision's functions.

The golden values come from golden/make_augmentations.py.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distributions import assert_uniform
from golden import augmentation_inputs as inputs

from cifar_jax.data.distortions import colors
from cifar_jax.data.distortions.base import Example
from cifar_jax.data.distortions.colors import ColorJitter, Grayscale

GOLDEN = np.load(pathlib.Path(__file__).parents[2] / "golden" / "augmentations.npz")
IMAGES = jnp.asarray(inputs.images())
KEYS = jax.random.split(jax.random.key(0), 3000)
EXAMPLE = Example(jnp.int32(0), jnp.int32(0), jax.random.key(0), inputs.HEIGHT)


def jittered(image, keys=KEYS, **strengths):
    """Returns an image under color jitter of some kinds, once for each key."""
    options = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0)
    jitter = ColorJitter(**options | strengths)
    distort = jax.jit(jax.vmap(lambda key: jitter(key, image, EXAMPLE)))
    return np.asarray(distort(keys), int)


def test_grayscale_is_torchvisions():
    gray = jax.vmap(lambda image: Grayscale()(KEYS[0], image, EXAMPLE))(IMAGES)
    np.testing.assert_array_equal(gray, GOLDEN["grayscale"])


@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation"])
def test_blends_are_torchvisions(kind):
    for factor, expected in zip(inputs.FACTORS, GOLDEN[kind], strict=True):
        for image, wanted in zip(IMAGES, expected, strict=True):
            gray = colors.luma(image).astype(jnp.float32)
            others = {
                "brightness": jnp.zeros((1, 1, 1)),
                "contrast": gray.mean(keepdims=True),
                "saturation": gray,
            }
            found = colors.blend(image, others[kind], jnp.float32(factor))
            difference = np.abs(np.asarray(found, int) - wanted)
            assert difference.max() <= 1
            assert difference.mean() < 0.02


def test_hues_are_torchvisions():
    shifted = jax.vmap(jax.vmap(colors.shift_hue, (0, None)), (None, 0))
    found = shifted(IMAGES, jnp.array(inputs.HUES))
    difference = np.abs(np.asarray(found, int) - GOLDEN["hue"])
    assert difference.max() <= 1
    assert difference.mean() < 0.01


def test_a_hue_shifted_all_around_is_the_same():
    for shift in (-1.0, 0.0, 1.0):
        found = colors.shift_hue(IMAGES[0], jnp.float32(shift))
        assert np.abs(np.asarray(found, int) - IMAGES[0]).max() <= 1


def test_floats_are_rounded_and_clipped():
    image = jnp.array([-3.0, 0.4, 0.6, 254.7, 300.0]).reshape(5, 1, 1)
    expected = np.array([0, 0, 1, 255, 255])
    np.testing.assert_array_equal(colors.as_bytes(image).ravel(), expected)


def test_factors_are_uniform():
    image = jnp.full((1, 1, 3), 100, jnp.uint8)
    # 100 times the factor, truncated; adding a uniform part of a unit spreads it.
    spread = np.random.default_rng(0).uniform(size=len(KEYS))
    found = jittered(image, brightness=0.4)[:, 0, 0, 0] + spread
    assert_uniform(found, 60, 140)
    found = jittered(image, brightness=1.5)[:, 0, 0, 0] + spread
    assert_uniform(found, 0, 250)


def test_every_part_of_color_jitter_changes_images():
    for name in ("brightness", "contrast", "saturation", "hue"):
        found = jittered(IMAGES[0], KEYS[:200], **{name: 0.5})
        changed = (found != IMAGES[0]).any(axis=(1, 2, 3))
        assert changed.mean() > 0.9, name
    np.testing.assert_array_equal(jittered(IMAGES[0], KEYS[:1])[0], IMAGES[0])
