"""Tests what a network computes inside, and that JAX can transform it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import SmallNetwork

from cifar_jax import (
    Config,
    Network,
    Trained,
    UserError,
    features,
    load_exported,
    models,
    predict_logits,
)
from cifar_jax.data.views import VIEWS
from cifar_jax.evaluation import forward

# What two networks compute is compared up to the rounding of other batch sizes.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def create(model: str | Network, image_size=32, **settings) -> Trained:
    """Returns an untrained network for images of 32x32, in two classes."""
    named = model if isinstance(model, str) else "tutorial"
    config = Config(model=named, image_size=image_size, distortions="", **settings)
    network = models.create(model, 2) if isinstance(model, str) else model
    preprocessing = config.preprocessing
    images = random_images(4)
    inputs = jnp.zeros((1, image_size, image_size, 3))
    return Trained(
        model=network,
        variables=jax.jit(network.init)(jax.random.key(0), inputs),
        preprocessing=preprocessing,
        statistics=preprocessing.statistics(images),
        step=0,
        class_names=("a", "b"),
        image_shape=(32, 32, 3),
    )


def random_images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def network():
    """The tutorial's network, for the central 24x24 pixels."""
    return create("tutorial", image_size=24)


@pytest.mark.parametrize(
    "settings",
    [
        {"image_size": 24},
        {"image_size": 24, "normalization": "channel"},
        {"image_size": 64, "normalization": "mean_image"},
        {"image_size": 24, "views": "ten_crops"},
    ],
    ids=str,
)
def test_logits_of_floats_are_those_of_bytes(settings):
    network = create(
        "lenet" if settings["image_size"] == 64 else "tutorial", **settings
    )
    images = random_images(6)
    expected = predict_logits(network, images)
    for given in (images, images.astype(np.float32)):
        np.testing.assert_allclose(network.logits(given), expected, **CLOSE)
    one = jax.jit(jax.vmap(lambda image: network.logits(image[None])[0]))
    np.testing.assert_allclose(one(images), expected, **CLOSE)


def test_gradients_are_those_of_finite_differences(network):
    image = random_images(1).astype(np.float32)
    gradient = jax.grad(lambda x: network.logits(x)[0, 1])(image)
    # Only the central 24x24 pixels are seen.
    assert not gradient[0, :4].any()
    assert gradient[0, 4:28, 4:28].all()
    direction = np.sign(gradient)
    up, down = (network.logits(image + by * direction)[0, 1] for by in (0.05, -0.05))
    np.testing.assert_allclose((up - down) / 0.1, np.abs(gradient).sum(), rtol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", models.MODELS)
def test_every_network_has_a_penultimate_layer(name):
    model = models.create(name, 7)
    size = max(32, model.smallest_image)
    config = Config(model=name, image_size=size, distortions="")
    inputs = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    found = jax.eval_shape(
        lambda variables, images: forward.layers(
            variables, images, None, model=model, preprocessing=config.preprocessing
        ),
        variables,
        jax.ShapeDtypeStruct((3, size, size, 3), np.uint8),
    )
    assert next(iter(found)) == "input"
    assert [*found][-1] == "penultimate"
    count, width = found["penultimate"].shape
    kernel = variables["params"][model.classifier[-1]]["kernel"]
    assert (count, width, 7) == (3, *kernel.shape[-2:])


@pytest.mark.parametrize("model", ["tutorial", "lenet", "mobilenet(width=8)"])
def test_the_last_layer_makes_logits_of_the_penultimate_one(model):
    network = create(model, normalization="tf")
    images = random_images(5)
    last = network.variables["params"][network.model.classifier[-1]]
    rows = features(network, images, batch_size=2)
    logits = rows @ np.reshape(last["kernel"], (rows.shape[1], 2)) + last["bias"]
    np.testing.assert_allclose(logits, predict_logits(network, images), **CLOSE)


def test_layers_have_the_names_that_they_are_tapped_by_in_order(network):
    names = ["input", "conv1", "conv2", "local3", "local4", "softmax_linear"]
    images = random_images(3)
    for found in (network.layers(images), jax.jit(network.layers)(images)):
        assert [*found] == [*names, "penultimate"]
        np.testing.assert_array_equal(found["penultimate"], found["local4"])
    maps = features(network, images, "conv1")
    assert maps.shape == (3, 24, 24, 64)
    np.testing.assert_allclose(maps, found["conv1"], **CLOSE)


def test_layers_see_the_central_view_of_several(network):
    views = VIEWS["mirror"]()
    preprocessing = dataclasses.replace(network.preprocessing, views=views)
    several = dataclasses.replace(network, preprocessing=preprocessing)
    images = random_images(3)
    assert not np.allclose(several.logits(images), network.logits(images))
    np.testing.assert_array_equal(features(several, images), features(network, images))


def test_a_layer_that_does_not_exist_is_refused_with_those_that_do(network):
    with pytest.raises(UserError, match=r"'conv3' is unknown.* input, conv1, .*local4"):
        features(network, random_images(1), "conv3")


def test_a_network_of_ones_own_has_a_penultimate_layer_if_it_names_the_last_one():
    class Unnamed(Network):
        @nn.compact
        def __call__(self, images, train=False):
            return nn.Dense(self.num_classes, name="head")(images.mean(axis=(1, 2)))

    assert features(create(SmallNetwork(num_classes=2)), random_images(2)).shape == (
        2,
        32,
    )
    with pytest.raises(UserError, match=r"'penultimate' is unknown.* has input$"):
        features(create(Unnamed(num_classes=2)), random_images(2))


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((32, 32, 3)), "image\\[None\\]"),
        (np.zeros((2, 24, 24, 3)), r"\[n, 32, 32, 3\]"),
        ([[1.0]], "list"),
    ],
)
def test_images_of_other_shapes_are_refused(network, images, words):
    for function in (network.logits, network.layers):
        with pytest.raises(UserError, match=f"images must be an array.*{words}"):
            function(images)


def test_the_bundled_networks_logits_are_its_scaled_features_times_the_head():
    network = load_exported()
    images = random_images(2)
    rows = features(network, images)
    kernel = network.variables["params"]["predictions"]["kernel"]
    scale = network.model.logit_scale
    expected = rows @ kernel * scale
    center = dataclasses.replace(
        network,
        preprocessing=dataclasses.replace(
            network.preprocessing, views=VIEWS["center"]()
        ),
    )
    np.testing.assert_allclose(center.logits(images), expected, rtol=1e-3, atol=1e-3)
