"""Tests which operations the policies choose, and how they follow one another."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distributions import assert_equally_likely, assert_independent
from golden import augmentation_inputs as inputs

from cifar_jax import Config, UserError
from cifar_jax.data.distortions import augmix, policies
from cifar_jax.data.distortions import operations as ops
from cifar_jax.data.distortions.augmix import AugMix
from cifar_jax.data.distortions.base import Example
from cifar_jax.data.distortions.policies import (
    CIFAR10,
    AutoAugment,
    RandAugment,
    TrivialAugment,
)

KEYS = jax.random.split(jax.random.key(0), 20_000)
EXAMPLE = Example(jnp.int32(0), jnp.int32(0), jax.random.key(0), 8)
IMAGE = jnp.asarray(inputs.images()[0])


@pytest.fixture
def recorded(monkeypatch):
    """Returns a function that lists the operations a distortion applies."""

    def record(image, operation, magnitude, interpolation="nearest"):
        seen.append((operation, magnitude))
        return image

    seen: list = []
    monkeypatch.setattr(ops, "transform", record)

    def draws(distortion, keys=KEYS):
        """Returns operations and magnitudes, [key, call]."""

        def call(key):
            seen.clear()
            distortion(key, jnp.zeros((20, 24, 3), jnp.uint8), EXAMPLE)
            return tuple(jnp.stack(values) for values in zip(*seen, strict=True))

        operations, magnitudes = jax.jit(jax.vmap(call))(keys)
        return np.asarray(operations), np.asarray(magnitudes)

    return draws


def test_trivial_augment_draws_each_operation_and_magnitude_alike(recorded):
    operations, magnitudes = (draws[:, 0] for draws in recorded(TrivialAugment()))
    assert_equally_likely(operations, ops.INVERT)
    space = np.asarray(policies.WIDE.magnitudes(20, 24)[..., 0])
    for operation in (ops.SHEAR_X, ops.ROTATE, ops.SOLARIZE):
        own = magnitudes[operations == operation]
        bins = np.abs(space[operation][:, None] - np.abs(own)).argmin(axis=0)
        assert_equally_likely(bins, policies.WIDE.bins)
        np.testing.assert_array_equal(np.abs(own), space[operation][bins])


def test_half_of_the_signed_magnitudes_are_negative(recorded):
    operations, magnitudes = (draws[:, 0] for draws in recorded(TrivialAugment()))
    signed = np.isin(operations, (*ops.AFFINE, *ops.BLENDS)) & (magnitudes != 0)
    assert_equally_likely((magnitudes[signed] < 0).astype(int), 2)
    assert_independent(operations[signed], magnitudes[signed] < 0)
    assert (magnitudes[~signed] >= 0).all()


def test_rand_augment_draws_several_operations_of_one_magnitude(recorded):
    operations, magnitudes = recorded(RandAugment(num_ops=3, magnitude=9))
    assert operations.shape == (len(KEYS), 3)
    for place in range(3):
        assert_equally_likely(operations[:, place], ops.INVERT)
    assert_independent(operations[:, 0], operations[:, 1])
    space = np.asarray(policies.RAND.magnitudes(20, 24)[..., 0])
    np.testing.assert_array_equal(np.abs(magnitudes), space[operations, 9])


def test_auto_augment_draws_each_pair_alike_and_skips_operations(recorded):
    operations, _ = recorded(AutoAugment())
    expected = np.zeros((len(ops.NAMES), len(ops.NAMES)))
    for (first, first_prob, _), (second, second_prob, _) in CIFAR10:
        for one, one_prob in ((first, first_prob), (0, 1 - first_prob)):
            for two, two_prob in ((second, second_prob), (0, 1 - second_prob)):
                expected[one, two] += one_prob * two_prob / len(CIFAR10)
    found = np.zeros_like(expected)
    np.add.at(found, tuple(operations.T), 1 / len(KEYS))
    # The standard deviation of a share is at most 0.0035 / 2.
    np.testing.assert_allclose(found, expected, atol=0.008)


def test_rand_augment_applies_one_operation_after_another(monkeypatch):
    chosen = {0: ops.ROTATE, 1: ops.EQUALIZE}
    transform, places = ops.transform, iter(chosen)

    def choose(image, operation, magnitude, interpolation="nearest"):
        operation = jnp.int32(chosen[next(places)])
        return transform(image, operation, jnp.float32(20), interpolation)

    monkeypatch.setattr(ops, "transform", choose)
    found = RandAugment()(KEYS[0], IMAGE, EXAMPLE)
    turned = transform(IMAGE, jnp.int32(ops.ROTATE), jnp.float32(20))
    expected = transform(turned, jnp.int32(ops.EQUALIZE), jnp.float32(20))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("all_ops", [True, False])
def test_augmix_draws_chains_of_one_to_three_operations(monkeypatch, all_ops):
    seen: list = []

    def record(image, operation, magnitude, interpolation):
        assert interpolation == "bilinear"
        seen.append((operation, magnitude))
        return image

    monkeypatch.setattr(ops, "transform", record)
    monkeypatch.setattr(jax, "vmap", lambda function, axes: call_each(function))

    def call_each(function):
        return lambda keys, image: jnp.stack([function(key, image) for key in keys])

    def call(key):
        seen.clear()
        AugMix(mixture_width=1, all_ops=all_ops)(key, IMAGE, EXAMPLE)
        return tuple(jnp.stack(values) for values in zip(*seen, strict=True))

    operations, magnitudes = jax.lax.map(call, KEYS[:6000])
    operations, magnitudes = np.asarray(operations), np.asarray(magnitudes)
    assert_equally_likely((operations != ops.IDENTITY).sum(axis=1) - 1, 3)
    choices = sorted(set(operations[:, 0].tolist()))
    blends = set(ops.BLENDS) if all_ops else set()
    assert set(choices) == {*ops.AFFINE, *ops.VALUES} - {ops.INVERT} | blends
    assert_equally_likely(np.searchsorted(choices, operations[:, 0]), len(choices))
    space = np.asarray(augmix.SPACE.magnitudes(20, 24)[..., 0])
    rotated = np.abs(magnitudes[:, 0][operations[:, 0] == ops.ROTATE])
    bins = np.searchsorted(space[ops.ROTATE], rotated)
    assert_equally_likely(bins, 3)


def test_augmix_is_a_mean_of_the_image_and_its_chains(monkeypatch):
    """If all chains give black, the image keeps a share from a beta distribution."""
    black = jnp.zeros_like(IMAGE)
    monkeypatch.setattr(ops, "transform", lambda *_: black)
    white = jnp.full_like(IMAGE, 255)
    mix = functools.partial(AugMix(), image=white, example=EXAMPLE)
    shares = np.asarray(jax.vmap(mix)(KEYS[:4000]))[:, 0, 0, 0] / 255
    assert shares.mean() == pytest.approx(1 / 2, abs=0.02)
    # Beta(1, 1) is uniform.
    assert shares.var() == pytest.approx(1 / 12, abs=0.005)
    # If they give the image, the mean is the image, up to the truncation.
    monkeypatch.setattr(ops, "transform", lambda image, *_: image)
    found = np.asarray(AugMix()(KEYS[0], IMAGE, EXAMPLE), int)
    assert np.abs(found - IMAGE).max() <= 1


@pytest.mark.parametrize(
    "text",
    [
        *("rand_augment(magnitude=31)", "rand_augment(num_ops=0)"),
        *("augmix(severity=11)", "augmix(chain_depth=0)", "augmix(alpha=0)"),
        "augmix(mixture_width=0)",
    ],
)
def test_options_out_of_range_are_refused(text):
    with pytest.raises(UserError, match="must be"):
        Config(distortions=text)
