"""Tests rotations and affine maps against torchvision's functions.

The golden values come from golden/make_augmentations.py.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distributions import assert_equally_likely, assert_uniform
from golden import augmentation_inputs as inputs

from cifar_jax import Config, UserError
from cifar_jax.data.distortions import affine
from cifar_jax.data.distortions.affine import Affine, Rotate, inverse_matrix, resample
from cifar_jax.data.distortions.base import Example

GOLDEN = np.load(pathlib.Path(__file__).parents[2] / "golden" / "augmentations.npz")
IMAGES = jnp.asarray(inputs.images())
KEYS = jax.random.split(jax.random.key(0), 3000)
EXAMPLE = Example(jnp.int32(0), jnp.int32(0), jax.random.key(0), 9)
MAPS = (
    *inputs.AFFINE,
    # torchvision rotates counterclockwise, but its affine maps turn clockwise.
    *((-angle, (0.0, 0.0), 1.0, (0.0, 0.0)) for angle in inputs.ANGLES),
)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_affine_maps_are_torchvisions(interpolation):
    golden = GOLDEN[f"affine_{interpolation}"]
    for (angle, shift, scale, shear), expected in zip(MAPS, golden, strict=True):
        tangents = tuple(np.tan(np.radians(shear)))
        matrix = inverse_matrix(np.radians(angle), shift, scale, tangents)
        for image, wanted in zip(IMAGES, expected, strict=True):
            found = resample(image, matrix, interpolation)
            difference = np.abs(np.asarray(found, int) - wanted)
            if interpolation == "bilinear":
                assert difference.max() <= 1
            # On the border between two pixels, rounding decides.
            assert (difference > 0).mean() < 0.01, (angle, shift, scale, shear)


@pytest.fixture
def matrices(monkeypatch):
    """Returns a function that lists the matrices of a distortion, one for each key."""
    seen: list = []

    def record(image, matrix, interpolation):
        seen.append(matrix)
        return image

    monkeypatch.setattr(affine, "resample", record)

    def draws(distortion):
        def call(key):
            seen.clear()
            distortion(key, IMAGES[0], EXAMPLE)
            return seen[0]

        return np.asarray(jax.vmap(call)(KEYS))

    return draws


def test_angles_are_uniform(matrices):
    for distortion in (Rotate(30.0), Affine(30.0)):
        found = matrices(distortion)
        assert_uniform(np.degrees(np.arctan2(found[:, 1, 0], found[:, 0, 0])), -30, 30)


def test_scales_are_uniform(matrices):
    found = matrices(Affine(0.0, 0.0, (0.8, 1.25)))
    assert_uniform(1 / found[:, 0, 0], 0.8, 1.25)


def test_shears_are_uniform(matrices):
    found = matrices(Affine(0.0, 0.0, (1.0, 1.0), 40.0))
    assert_uniform(np.degrees(np.arctan(found[:, 0, 1])), -40, 40)


def test_translations_are_whole_pixels(matrices):
    found = matrices(Affine(0.0, 0.125))[..., 2]
    np.testing.assert_array_equal(found, np.rint(found))
    # Up to 3 of 24 columns and 2.5 of 20 rows, rounded.
    np.testing.assert_array_equal(np.unique(found[:, 0]), np.arange(-3, 4))
    assert (np.abs(found[:, 0]) == 3).mean() == pytest.approx(1 / 6, abs=0.03)
    assert_equally_likely(found[:, 1].astype(int) + 2, 5)


@pytest.mark.parametrize(
    "text",
    [
        *("rotate(-1)", "rotate(200)", "rotate(interpolation='cubic')"),
        *("affine(scale=(0, 1))", "affine(scale=(2, 1))", "affine(shear=90)"),
        *("affine(translate=2)", "affine(degrees=-3)"),
    ],
)
def test_impossible_maps_are_refused(text):
    with pytest.raises(UserError, match="must be"):
        Config(distortions=text)
