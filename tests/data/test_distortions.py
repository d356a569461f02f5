"""Tests the distortions beyond the tutorial's against their definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distributions import assert_equally_likely
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar_jax import Config
from cifar_jax.data.distortions.base import Example
from cifar_jax.data.distortions.geometry import Translate
from cifar_jax.data.distortions.mixtures import Cutmix, Mixup
from cifar_jax.data.distortions.values import Cutout

IMAGE = jnp.asarray(
    np.random.RandomState(0).randint(256, size=(12, 12, 3), dtype=np.uint8)
)
KEYS = jax.random.split(jax.random.key(0), 300)


def example():
    return Example(jnp.int32(0), jnp.int32(0), jax.random.key(0), 12)


def test_translated_images_are_windows_of_the_reflected_image():
    crops = jax.vmap(lambda key: Translate(2)(key, IMAGE, example()))(KEYS)
    framed = np.pad(IMAGE, [(2, 2), (2, 2), (0, 0)], mode="reflect")
    windows = [framed[i : i + 12, j : j + 12] for i in range(5) for j in range(5)]
    names = {window.tobytes(): number for number, window in enumerate(windows)}
    found = [names[np.asarray(crop).tobytes()] for crop in crops]
    assert_equally_likely(np.array(found), 25)


def alternating_flips(key, epoch):
    """Returns IMAGE as it is shown at each of 400 places of the training set."""
    preprocessing = Config(distortions="alternating_flip", image_size=12).preprocessing
    distorted = jax.vmap(preprocessing.distort, (None, None, None, 0, None))
    indices = jnp.arange(400)
    return np.asarray(distorted(KEYS[0], IMAGE, jnp.int32(epoch), indices, key))


def is_mirrored(images):
    return (images != IMAGE).any(axis=(1, 2, 3))


def test_alternating_flip_depends_on_the_seed():
    first, second = (
        is_mirrored(alternating_flips(jax.random.key(seed), 0)) for seed in (0, 1)
    )
    assert 160 < (first != second).sum() < 240


def test_alternating_flip_shows_each_side_in_every_two_epochs():
    epochs = [alternating_flips(jax.random.key(5), epoch) for epoch in range(3)]
    mirrored = [is_mirrored(images) for images in epochs]
    np.testing.assert_array_equal(mirrored[0], ~mirrored[1])
    np.testing.assert_array_equal(mirrored[0], mirrored[2])
    assert 160 < mirrored[0].sum() < 240
    np.testing.assert_array_equal(epochs[0][mirrored[0]][0], IMAGE[:, ::-1])


@pytest.mark.parametrize("size", [1, 4, 5])
def test_cutout_grays_a_square_that_may_reach_beyond_the_edge(size):
    images = jax.vmap(lambda key: Cutout(size)(key, IMAGE, example()))(KEYS)
    gray = np.isclose(images, IMAGE.mean(axis=(0, 1)), atol=1e-3).all(axis=-1)
    areas = gray.sum(axis=(1, 2))
    assert areas.max() == size**2
    assert areas.min() == ((size + 1) // 2) ** 2 or size == 1
    for square, area in zip(gray[:50], areas[:50], strict=True):
        rows, columns = np.nonzero(square.any(axis=1))[0], np.nonzero(square.any(0))[0]
        assert (np.ptp(rows) + 1) * (np.ptp(columns) + 1) == area
    untouched = ~gray[0]
    np.testing.assert_array_equal(images[0][untouched], IMAGE[untouched])


def test_the_mean_height_of_a_square_of_cutout_is_the_documented_one():
    # No pixel has the mean of all.
    image = jnp.arange(1024.0).reshape(32, 32, 1)
    keys = jax.random.split(jax.random.key(0), 4000)
    images = jax.vmap(lambda key: Cutout(16)(key, image, example()))(keys)
    heights = (images != image).any(axis=(2, 3)).sum(axis=1)
    assert float(heights.mean()) == pytest.approx(14, abs=0.2)


BATCH = jnp.asarray(
    np.random.RandomState(1).uniform(0, 255, (5, 8, 8, 3)).astype(np.float32)
)
TARGETS = jnp.eye(5)


@settings(max_examples=8)
@given(st.integers(0, 2**31), st.sampled_from([0.2, 1.0]))
def test_mixup_weights_images_and_targets_alike(seed, alpha):
    images, targets = Mixup(alpha)(jax.random.key(seed), BATCH, TARGETS)
    weight = float(targets[0, 0])
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
    following = np.roll(BATCH, -1, axis=0)
    expected = weight * BATCH + (1 - weight) * following
    np.testing.assert_allclose(images, expected, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(np.diag(targets), weight, rtol=1e-5)
    np.testing.assert_allclose(targets[4, 0], 1 - weight, atol=1e-5)


def test_the_weight_of_mixup_is_from_a_beta_distribution():
    draw = functools.partial(Mixup(0.5), images=BATCH, targets=TARGETS)
    weights = jax.vmap(lambda key: draw(key)[1][0, 0])(KEYS)
    # The variance of Beta(a, a) is 1 / (4 (2 a + 1)).
    assert abs(float(weights.mean()) - 0.5) < 0.1
    assert abs(float(weights.var()) - 1 / 8) < 0.03


@pytest.mark.slow
@settings(max_examples=8)
@given(st.integers(0, 2**31))
def test_cutmix_pastes_a_rectangle_and_its_share_of_the_target(seed):
    images, targets = Cutmix()(jax.random.key(seed), BATCH, TARGETS)
    pasted = (np.asarray(images) != BATCH).any(axis=-1)
    following = np.roll(BATCH, -1, axis=0)
    np.testing.assert_array_equal(np.asarray(images)[pasted], following[pasted])
    share = pasted.mean(axis=(1, 2))
    np.testing.assert_allclose(1 - np.diag(targets), share, atol=1e-5)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
    if pasted[0].any():
        rows, columns = np.nonzero(pasted[0].any(1))[0], np.nonzero(pasted[0].any(0))[0]
        area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert area == pasted[0].sum()


def test_the_rectangle_of_cutmix_is_as_large_as_drawn():
    """Its sides are near sqrt(1/2) if alpha is high; what is outside is cut off."""
    images, targets = jnp.zeros((2, 32, 32, 3)), jnp.eye(2)
    draw = functools.partial(Cutmix(1e4), images=images, targets=targets)
    shares = 1 - jax.vmap(lambda key: draw(key)[1][0, 0])(KEYS)
    # Of a side s at a random place, s - s**2 / 4 is inside on average.
    side = 0.5**0.5
    assert float(shares.mean()) == pytest.approx((side - side**2 / 4) ** 2, abs=0.02)
    assert float(shares.max()) == pytest.approx(0.5, abs=0.03)


def test_cutmix_keeps_more_if_its_sides_are_truncated():
    images, targets = jnp.zeros((2, 32, 32, 1)), jnp.eye(2)
    draw = functools.partial(Cutmix(), images=images, targets=targets)
    keys = jax.random.split(jax.random.key(0), 20_000)
    kept = jax.vmap(lambda key: draw(key)[1][0, 0])(keys)
    assert float(kept.mean()) == pytest.approx(0.679, abs=0.006)
    # The authors' code.
    random = np.random.default_rng(0)
    half = (32 * np.sqrt(1 - random.beta(1, 1, 200_000))).astype(int) // 2
    sides = [
        np.clip(center + half, 0, 32) - np.clip(center - half, 0, 32)
        for center in random.integers(32, size=(2, 200_000))
    ]
    assert 1 - np.prod(sides, axis=0).mean() / 32**2 == pytest.approx(0.701, abs=0.003)
