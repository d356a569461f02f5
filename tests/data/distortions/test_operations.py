"""Tests the operations of the policies against torchvision's.

The golden values come from golden/make_augmentations.py.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import augmentation_inputs as inputs

from cifar_jax.data.distortions import operations as ops
from cifar_jax.data.distortions.augmix import SPACE
from cifar_jax.data.distortions.policies import AUTO, CIFAR10, RAND, WIDE

GOLDEN = np.load(pathlib.Path(__file__).parents[2] / "golden" / "augmentations.npz")
IMAGES = inputs.images()
SPACES = {"trivial": WIDE, "rand": RAND, "auto": AUTO, "augmix": SPACE}
transform = jax.jit(ops.transform, static_argnums=3)


@functools.partial(jax.jit, static_argnums=3)
def transform_all(images, operation, magnitudes, interpolation):
    """Returns [magnitude, image, h, w, c]."""
    each = jax.vmap(ops.transform, (0, None, None, None))
    return jax.vmap(each, (None, None, 0, None))(
        images, operation, magnitudes, interpolation
    )


def results(operation, policy, bins, interpolation):
    """Returns ours and torchvision's, [magnitude, image, h, w, c]."""
    expected = GOLDEN[policy][operation]
    magnitudes = SPACES[policy].magnitudes(inputs.HEIGHT, inputs.WIDTH)
    signs = 2 if operation in (*ops.AFFINE, *ops.BLENDS) else 1
    chosen = magnitudes[operation, jnp.array(bins), :signs].ravel()
    expected = expected[:, :signs].reshape(-1, *expected.shape[2:])
    operation = jnp.int32(operation)
    found = transform_all(IMAGES, operation, chosen, interpolation)
    return np.asarray(found, int), expected, np.asarray(chosen)


@pytest.mark.parametrize("policy", SPACES)
def test_magnitudes_are_torchvisions(policy):
    expected = GOLDEN[f"{policy}_magnitudes"]
    both = np.asarray(SPACES[policy].magnitudes(inputs.HEIGHT, inputs.WIDTH))
    found, negative = both[..., 0], both[..., 1]
    # A policy's space may lack an operation that the table has.
    present = expected.any(axis=1)
    np.testing.assert_allclose(found[present], expected[present], rtol=1e-6, atol=1e-4)
    assert present.sum() >= 11
    signed = (*ops.AFFINE, *ops.BLENDS)
    np.testing.assert_array_equal(negative[[*signed]], -found[[*signed]])
    np.testing.assert_array_equal(negative[[*ops.VALUES]], found[[*ops.VALUES]])


def test_the_pairs_of_auto_augment_are_torchvisions():
    np.testing.assert_array_equal(np.array(CIFAR10), GOLDEN["policies"])


def old_places(operation, magnitude):
    """Returns where each pixel of the new image was, [(row, column), h, w]."""
    y, x = np.mgrid[: inputs.HEIGHT, : inputs.WIDTH] + 0.5
    center_y, center_x = inputs.HEIGHT / 2, inputs.WIDTH / 2
    if operation == ops.SHEAR_X:
        x = x + magnitude * y
    elif operation == ops.SHEAR_Y:
        y = y + magnitude * x
    elif operation == ops.TRANSLATE_X:
        x = x - int(magnitude)
    elif operation == ops.TRANSLATE_Y:
        y = y - int(magnitude)
    else:
        sin, cos = np.sin(np.radians(magnitude)), np.cos(np.radians(magnitude))
        x, y = x - center_x, y - center_y
        x, y = cos * x - sin * y + center_x, sin * x + cos * y + center_y
    return np.stack([y, x])


@pytest.mark.parametrize("operation", ops.AFFINE, ids=lambda o: ops.NAMES[o])
def test_affine_maps_take_the_pixels_that_torchvision_takes(operation):
    found, expected, magnitudes = results(operation, "trivial", inputs.BINS, "nearest")
    for ours, theirs, magnitude in zip(found, expected, magnitudes, strict=True):
        places = old_places(operation, float(magnitude))
        # On the border between two pixels, rounding decides.
        clear = (np.abs(places - np.round(places)) > 1e-4).all(axis=0)
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(ours[:, clear], theirs[:, clear])


@pytest.mark.parametrize("operation", ops.AFFINE, ids=lambda o: ops.NAMES[o])
def test_bilinear_affine_maps_are_torchvisions(operation):
    found, expected, _ = results(operation, "augmix", inputs.AUGMIX_BINS, "bilinear")
    difference = np.abs(found - expected)
    assert difference.max() <= 1
    # Halfway between two pixels, rounding decides.
    assert difference.mean() < 0.02


@pytest.mark.parametrize("operation", ops.BLENDS, ids=lambda o: ops.NAMES[o])
def test_blends_are_torchvisions(operation):
    found, expected, _ = results(operation, "trivial", inputs.BINS, "nearest")
    difference = np.abs(found - expected)
    # Both truncate, where a sum in another order may be just below an integer.
    assert difference.max() <= 1
    assert difference.mean() < 0.01


@pytest.mark.parametrize("operation", ops.VALUES, ids=lambda o: ops.NAMES[o])
def test_new_values_are_torchvisions(operation):
    for policy, bins in (("trivial", inputs.BINS), ("augmix", inputs.AUGMIX_BINS)):
        found, expected, _ = results(operation, policy, bins, "nearest")
        np.testing.assert_array_equal(found, expected)


def test_the_identity_changes_nothing():
    found, *_ = results(ops.IDENTITY, "trivial", inputs.BINS, "bilinear")
    np.testing.assert_array_equal(found, np.broadcast_to(IMAGES, found.shape))


@pytest.mark.parametrize("value", [0, 93, 255])
@pytest.mark.parametrize("operation", [ops.AUTOCONTRAST, ops.EQUALIZE])
def test_an_image_of_one_value_is_not_stretched(operation, value):
    image = jnp.full((8, 8, 3), value, jnp.uint8)
    found = transform(image, jnp.int32(operation), jnp.float32(0), "nearest")
    np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_images_may_have_any_number_of_channels(channels):
    image = jnp.asarray(np.resize(IMAGES[0], (9, 7, channels)))
    for operation in range(len(ops.NAMES)):
        found = transform(image, jnp.int32(operation), jnp.float32(0.5), "nearest")
        assert found.shape == image.shape
