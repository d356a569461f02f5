"""Tests saliency maps on a network that looks at known pixels only."""

import dataclasses

import numpy as np
import pytest
from flax import linen as nn
from jax import numpy as jnp

from cifar_jax import Network, Trained, UserError
from cifar_jax.config.config import Config
from cifar_jax.devices import compilation
from cifar_jax.evaluation.saliency import saliency_map


class Pixel(Network):
    """Class 0 is as probable as one pixel is bright.

    Attributes:
        row: of the pixel.
        column: of the pixel.
    """

    row: int = 0
    column: int = 0

    @nn.compact
    def __call__(self, images, train=False):
        brightness = images[:, self.row, self.column].mean(axis=-1)
        return jnp.stack([brightness, jnp.zeros(len(images))], axis=-1)


class Corner(Network):
    """Class 0 is as probable as the pixels at the top right are bright."""

    @nn.compact
    def __call__(self, images, train=False):
        brightness = images[:, :8, -8:].mean(axis=(1, 2, 3))
        return jnp.stack([brightness, jnp.zeros(len(images))], axis=-1)


def network(size: int, views: str = "center") -> Trained:
    config = Config(image_size=size, normalization="tf", distortions="", views=views)
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


@pytest.mark.parametrize("size", [2, 7, 15, 33, 64])
def test_any_pixel_of_an_image_of_any_size_is_found(size):
    for row, column in ((0, 0), (size // 3, size - 1), (size // 2, size // 2)):
        image = np.zeros((size, size, 3), np.uint8)
        image[row, column] = 255
        model = Pixel(num_classes=2, row=row, column=column)
        looking = dataclasses.replace(network(size), model=model)
        found = saliency_map(looking, image, label=0)
        # Every patch that counts for the pixel covers it.
        assert found[row, column] == pytest.approx(1)
        rows, columns = np.abs(np.arange(size) - row), np.abs(np.arange(size) - column)
        far = np.maximum(rows[:, None], columns) > size // 4
        assert far.any()
        assert not found[far].any()


def test_an_image_of_another_shape_is_refused(image):
    with pytest.raises(UserError, match=r"image must be an array \[n, 24, 24, 3\]"):
        saliency_map(network(24), image, label=0)


@pytest.mark.parametrize("views", ["mirror", "ten_crops", "shifted_mirrors"])
def test_the_network_sees_one_view_of_each_covered_copy(image, views):
    seen = []

    class Recording(Corner):
        def __call__(self, images, train=False):
            seen.append(len(images))
            return Corner.__call__(self, images, train)

    averaging = network(32, views)
    averaging = dataclasses.replace(averaging, model=Recording(num_classes=2))
    found = saliency_map(averaging, image, label=0)
    # A quarter of the image, moved by an eighth: 9 places a side, and the image itself.
    assert set(seen) == {9 * 9 + 1}
    np.testing.assert_array_equal(found, saliency_map(network(32), image, label=0))


def test_the_second_image_compiles_nothing(image, monkeypatch):
    saliency_map(network(32), image, label=0)
    monkeypatch.setattr(
        compilation, "compile_lowered", lambda _: pytest.fail("compiled")
    )
    saliency_map(network(32), image[::-1], label=1)
