"""Tests saliency maps on a network that looks at known pixels only."""

import numpy as np
import pytest
from flax import linen as nn
from jax import numpy as jnp

from cifar_jax import Network, Trained, UserError
from cifar_jax.config.config import Config
from cifar_jax.evaluation.saliency import saliency_map


class Corner(Network):
    """Class 0 is as probable as the pixels at the top right are bright."""

    @nn.compact
    def __call__(self, images, train=False):
        brightness = images[:, :8, -8:].mean(axis=(1, 2, 3))
        return jnp.stack([brightness, jnp.zeros(len(images))], axis=-1)


def network(size: int) -> Trained:
    config = Config(image_size=size, normalization="tf", distortions="")
    return Trained(
        model=Corner(num_classes=2),
        variables={},
        preprocessing=config.preprocessing,
        statistics=None,
        step=0,
        class_names=("bright", "dark"),
        image_shape=(size, size, 3),
    )


@pytest.fixture
def image():
    """Returns an image of 32x32 that is bright at the top right only."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:8, -8:] = 255
    return pixels


def test_the_map_marks_what_the_class_depends_on(image):
    found = saliency_map(network(32), image, label=0)
    assert found.shape == (32, 32)
    assert found.max() == found[:8, -8:].max() == 1
    assert found[:8, -8:].min() > 0.1
    # A patch is 8 pixels high and wide.
    assert not found[16:].any()
    assert not found[:, :16].any()


def test_what_speaks_against_a_class_is_zero(image):
    assert not saliency_map(network(32), image, label=1).any()


def test_the_smallest_image():
    image = np.full((1, 1, 3), 9, np.uint8)
    assert saliency_map(network(1), image, label=0).shape == (1, 1)


def test_an_image_of_another_shape_is_refused(image):
    with pytest.raises(UserError, match=r"image must be an array \[n, 24, 24, 3\]"):
        saliency_map(network(24), image, label=0)
