"""Tests that exported programs compute what `classify` does."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from cifar_jax import (
    Config,
    Network,
    Trained,
    UserError,
    build_program,
    classify,
    init_state,
    models,
)
from cifar_jax.evaluation import exports

IMAGES = np.random.default_rng(0).integers(0, 256, (17, 32, 32, 3), dtype=np.uint8)
# One of each family, with the size of its inputs.
NETWORKS = {
    "cuda_convnet_18pct": 32,
    "vgg16_bn": 32,
    "resnet18": 32,
    "mobilenet": 32,
    "xception": 71,
    "airbench94": 32,
}


def network(model: str, image_size: int, **settings: str) -> Trained:
    """Returns a network with random variables, BatchNorm's averages among them."""
    settings = {"distortions": "crop" if image_size < 32 else ""} | settings
    program = build_program(
        Config(model=model, image_size=image_size, **settings), num_classes=10
    )
    state = init_state(program, jax.random.key(0), IMAGES)
    random = np.random.default_rng(0)
    variables = state.variables | {
        "batch_stats": jax.tree.map(
            lambda x: x + random.uniform(0, 0.1, x.shape).astype(np.float32),
            state.batch_stats,
        )
    }
    return Trained(
        model=program.model,
        variables=variables,
        preprocessing=program.preprocessing,
        statistics=state.statistics,
        step=0,
        class_names=tuple("0123456789"),
        image_shape=IMAGES.shape[1:],
    )


def assert_equal_probabilities(trained: Trained, sizes: tuple[int, ...]) -> None:
    """Asserts that an export computes the same for these numbers of images."""
    expected = classify(trained, IMAGES[: max(sizes)])
    exported = jax.export.deserialize(bytearray(exports.serialize(trained)))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    for size in sizes:
        found = exported.call(IMAGES[:size])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected[:size], rtol=0, atol=1e-5)


class Convolution(Network):
    """The layers of `Network` for images."""

    @nn.compact
    def __call__(self, images, train=False):
        x = self.convolution(8, (3, 3), "conv")(images)
        x = self.max_pool(nn.relu(self.batch_norm("norm", train)(x)), (2, 2), (2, 2))
        return nn.Dense(self.num_classes, name="head")(x.mean(axis=(1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "image_size", "settings", "sizes"),
    [
        ("tutorial", 24, {"normalization": "mean_image"}, (3,)),
        ("small", 48, {"normalization": "torch", "views": "mirror"}, (3,)),
        (
            *("convolution", 32),
            {"normalization": "channel", "views": "shifted_mirrors"},
            (1, 3, 17),
        ),
    ],
)
def test_views_and_normalizations(model, image_size, settings, sizes, monkeypatch):
    monkeypatch.setitem(models.MODELS, "convolution", Convolution)
    assert_equal_probabilities(network(model, image_size, **settings), sizes)


class FixedBatch(Network):
    """A network that asks for the number of images."""

    @nn.compact
    def __call__(self, images, train=False):
        x = images.reshape(len(images), -1)
        return nn.Dense(self.num_classes, name="head")(x)


def test_a_network_for_a_known_number_of_images(monkeypatch):
    monkeypatch.setitem(models.MODELS, "fixed", FixedBatch)
    message = (
        r"^FixedBatch cannot be exported for an arb.*, use x\.shape\[0\] instead of .*$"
    )
    with pytest.raises(UserError, match=message):
        exports.serialize(network("fixed", 32))


def test_the_settings_of_jax_stay():
    before = jax.config.values.copy()
    exports.serialize(network("small", 24))
    assert jax.config.values == before


@pytest.mark.slow
@pytest.mark.parametrize(("model", "image_size"), NETWORKS.items())
def test_a_network_of_each_family(model, image_size):
    assert_equal_probabilities(network(model, image_size), (3,))
