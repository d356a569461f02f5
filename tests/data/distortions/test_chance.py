"""Tests the probability that every distortion and every mixture has as an option."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distributions import assert_independent

from cifar_jax import Config, UserError, register
from cifar_jax.data.distortions import CHOICES, DISTORTIONS, MIXTURES

IMAGE = jnp.asarray(
    np.random.RandomState(0).randint(256, size=(32, 32, 3), dtype=np.uint8)
)
KEYS = jax.random.split(jax.random.key(0), 1000)
BATCH = jnp.asarray(np.random.RandomState(1).uniform(0, 255, (4, 8, 8, 3)), jnp.float32)
TARGETS = jnp.eye(4)


def distorted(text, size=32, keys=KEYS):
    preprocessing = Config(distortions=text, image_size=size).preprocessing
    zero, root = jnp.int32(0), jax.random.key(1)
    distort = jax.jit(jax.vmap(preprocessing.distort, (0, None, None, None, None)))
    return np.asarray(distort(keys, IMAGE, zero, zero, root))


def mixed(text, keys=KEYS):
    preprocessing = Config(distortions=text).preprocessing
    mix = jax.jit(jax.vmap(preprocessing.mix, (0, None, None)))
    return tuple(map(np.asarray, mix(keys, BATCH, TARGETS)))


def share_of_changed(images, image):
    return (images != image).any(axis=tuple(range(1, images.ndim))).mean()


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("brightness(prob=0.3)", 0.3),
        ("brightness(63, prob=1)", 1.0),
        ("brightness(prob=0)", 0.0),
        # These have defaults of their own.
        ("flip", 0.5),
        ("flip(prob=0.2)", 0.2),
        ("grayscale", 0.1),
        ("random_erasing", 0.5),
    ],
)
def test_a_share_of_the_images_is_distorted(text, share):
    found = share_of_changed(distorted(text), IMAGE)
    assert found == pytest.approx(share, abs=0.05)


def test_draws_do_not_depend_on_the_chance():
    """Where an image is distorted, it is by all that it could be."""
    brighter = distorted("brightness(prob=0.5)")[:, 0, 0, 0] - float(IMAGE[0, 0, 0])
    brighter = brighter[brighter != 0]
    assert brighter.min() == pytest.approx(-63, abs=1.5)
    assert brighter.max() == pytest.approx(63, abs=1.5)
    assert abs(brighter.mean()) < 5


def test_a_distortion_with_probability_1_has_the_same_draws_as_without():
    for text in ("crop(padding=4)", "contrast(0.5)"):
        name, _, option = text.removesuffix(")").partition("(")
        same = distorted(f"{name}({option}, prob=1)", keys=KEYS[:9])
        np.testing.assert_array_equal(same, distorted(text, keys=KEYS[:9]))


def test_the_chances_of_two_distortions_are_independent():
    found = distorted("flip, brightness(prob=0.5)")
    shifts = found.mean(axis=(1, 2, 3)) - float(IMAGE.mean())
    mirror_image = np.asarray(IMAGE[:, ::-1], float)
    shifted_back = found - shifts[:, None, None, None]
    mirrored = np.isclose(shifted_back, mirror_image, atol=0.01).all(axis=(1, 2, 3))
    assert_independent(mirrored, np.abs(shifts) > 0.01)


def test_what_is_left_alone_is_cropped_to_the_center():
    found = distorted("crop(prob=0.25)", size=24)
    central = (found == IMAGE[4:28, 4:28]).all(axis=(1, 2, 3))
    # One of 81 crops is also the central one.
    assert central.mean() == pytest.approx(0.75 + 0.25 / 81, abs=0.05)


@pytest.mark.parametrize("mixture", ["mixup(1.0, prob=0.3)", "cutmix(100, prob=0.3)"])
def test_a_share_of_the_batches_is_mixed(mixture):
    images, targets = mixed(mixture)
    assert share_of_changed(images, BATCH) == pytest.approx(0.3, abs=0.05)
    assert share_of_changed(targets, TARGETS) == pytest.approx(0.3, abs=0.05)
    np.testing.assert_array_equal(
        (images != BATCH).any(axis=(1, 2, 3, 4)), (targets != TARGETS).any(axis=(1, 2))
    )


def is_pasted(images):
    """Returns whether all values are of the batch itself, as after cutmix."""
    both = np.stack([BATCH, np.roll(BATCH, -1, axis=0)])
    return (images[:, None] == both).any(axis=1).all(axis=(1, 2, 3, 4))


def test_a_mixture_is_chosen_for_each_batch():
    images, _ = mixed("choice(mixup(1.0), cutmix(100))")
    assert is_pasted(images).mean() == pytest.approx(0.5, abs=0.06)
    images, _ = mixed("choice(mixup(1.0), cutmix(100), weights=(1, 3))")
    assert is_pasted(images).mean() == pytest.approx(0.75, abs=0.06)
    images, _ = mixed("choice(mixup(1.0), cutmix(100), prob=0.4)")
    assert share_of_changed(images, BATCH) == pytest.approx(0.4, abs=0.06)
    changed = images[(images != BATCH).any(axis=(1, 2, 3, 4))]
    assert is_pasted(changed).mean() == pytest.approx(0.5, abs=0.09)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("flip(prob=1.5)", "prob=1.5 must be at most 1"),
        ("flip(prob=-0.1)", "prob=-0.1 must be at least 0"),
        ("mixup(prob=2)", "prob=2.0 must be at most 1"),
        ("crop(prob='often')", "prob='often' must be a number"),
        ("choice(mixup)", "at least two mixtures"),
        ("choice(mixup, cutmix, weights=(1,))", "must be as many as mixtures, 2"),
        ("choice(mixup, cutmix, weights=(1, 0))", "must be above 0"),
        ("choice(mixup, flip)", "flip is unknown; choose from mixup, cutmix, choice"),
        ("sharpen", "sharpen is unknown; choose from crop, center_crop, "),
        ("choice(mixup, cutmix), flip", "so they must come last"),
    ],
)
def test_impossible_chances_are_refused(text, reason):
    with pytest.raises(UserError) as caught:
        Config(distortions=text)
    assert reason in str(caught.value)


def test_one_of_your_own_has_it_too():
    @register("distortion", "negative")
    def negative(offset: int = 255):
        return lambda key, image, example: offset - image

    try:
        found = distorted("negative(prob=0.7)")
        assert share_of_changed(found, IMAGE) == pytest.approx(0.7, abs=0.05)
    finally:
        del DISTORTIONS["negative"]


def test_an_option_of_ones_own_with_this_name_is_kept():
    @register("distortion", "sparse")
    def sparse(prob: float = 0.25):
        return lambda key, image, example: image * prob

    try:
        assert (distorted("sparse(prob=0.5)", keys=KEYS[:2]) == IMAGE * 0.5).all()
    finally:
        del DISTORTIONS["sparse"]


def test_every_choice_lists_it_with_its_default():
    assert set(CHOICES) == {*DISTORTIONS, *MIXTURES}
    others = {"flip": 0.5, "random_erasing": 0.5, "grayscale": 0.1}
    for name, choice in CHOICES.items():
        default = inspect.signature(choice).parameters["prob"].default
        assert default == others.get(name, 1.0), name
