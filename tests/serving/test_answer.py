"""Tests what the page shows for pictures and networks of all sizes."""

import base64
import dataclasses
import io

import jax
import numpy as np
import pytest
from helpers import SmallNetwork
from PIL import Image

from cifar_jax import Config, Trained, classify, models
from cifar_jax.serving import answer as module
from cifar_jax.serving.answer import answer

PICTURE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def opened(shown: dict) -> Image.Image:
    """Returns a picture in an answer."""
    kind, content = shown["url"].split(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_the_likeliest_classes_as_predict_says_them(network):
    shown = answer(network, PICTURE)["classes"]
    expected = classify(network, PICTURE[None])[0]
    order = np.argsort(-expected)[:10]
    assert [c["name"] for c in shown] == [network.class_names[i] for i in order]
    found = [c["probability"] for c in shown]
    np.testing.assert_allclose(found, expected[order], rtol=1e-4)


def test_the_picture_and_what_the_network_is_given_of_it(network):
    shown = answer(network, PICTURE)
    np.testing.assert_array_equal(opened(shown["picture"]), PICTURE)
    given = np.asarray(opened(shown["input"]), float)
    crop = PICTURE[4:28, 4:28].astype(float)
    assert np.corrcoef(given.ravel(), crop.ravel())[0, 1] > 0.999
    assert (shown["picture"]["size"], shown["input"]["size"]) == ("32×32", "24×24")  # noqa: RUF001


def test_the_maps_of_a_convolution(network):
    shown = answer(network, PICTURE)
    (layer,) = shown["layers"]
    facts = {"name": "conv", "size": "12×12", "maps": 8, "shown": 8, "low": 0}  # noqa: RUF001
    assert layer | facts == layer
    assert layer["high"] > 0
    pixels = np.asarray(opened(layer))
    # Maps are enlarged to 24 pixels, and the ninth place is empty.
    assert pixels.shape == (3 * 25 - 1, 3 * 25 - 1, 4)
    assert (pixels[50:, 50:, 3] == 0).all()
    assert (pixels[24, :, 3] == 0).all()
    assert (pixels[:24, :24, 3] == 255).all()


@pytest.mark.parametrize(
    ("height", "maps", "shown"),
    [(3, 500, 64), (56, 256, 64), (112, 64, 16), (600, 2, 1)],
)
def test_as_many_maps_as_there_is_room_for(network, monkeypatch, height, maps, shown):
    layers = {
        "input": np.zeros((1, 24, 24, 3), np.float32),
        "name": np.zeros((1, height, height, maps), np.float32),
    }
    monkeypatch.setattr(module, "activations", lambda *_: layers)
    [layer] = answer(network, PICTURE)["layers"]
    assert (layer["shown"], layer["maps"]) == (shown, maps)
    assert max(opened(layer).size) <= max(512 + 8, height)


def test_some_layers_of_many(network, monkeypatch):
    def many(*_):
        maps = np.zeros((1, 24, 24, 3), np.float32)
        return dict.fromkeys(("input", *map(str, range(244))), maps)

    monkeypatch.setattr(module, "activations", many)
    shown = answer(network, PICTURE)
    numbers = [int(layer["name"]) for layer in shown["layers"]]
    assert shown["convolutions"] == 244
    assert (len(numbers), numbers[0], numbers[-1]) == (24, 0, 243)
    assert set(np.diff(numbers)) == {10, 11}


def test_one_class_and_no_convolution():
    model = SmallNetwork(num_classes=1)
    images = np.zeros((1, 24, 24, 3), np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    preprocessing = Config().preprocessing
    network = Trained(model, variables, preprocessing, None, 0, ("x",), (32, 32, 3))
    shown = answer(network, PICTURE)
    assert shown["classes"] == [{"name": "x", "probability": 1}]
    assert shown["layers"] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cuda_convnet_18pct", "resnet18", "sprint"])
def test_networks_of_every_family(name, network):
    model = models.create(name, num_classes=10)
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32)
    )
    config = Config(model=name, image_size=32, distortions="")
    changed = dataclasses.replace(
        network,
        model=model,
        variables=jax.tree.map(
            lambda leaf: np.full(leaf.shape, 0.01, np.float32), shapes
        ),
        preprocessing=config.preprocessing,
        class_names=network.class_names[:10],
    )
    shown = answer(changed, PICTURE)
    assert sum(c["probability"] for c in shown["classes"]) == pytest.approx(1)
    assert len(shown["layers"]) > 2
