"""Tests trainings that start from a part of the weights in a file of Keras."""

import dataclasses

import numpy as np
import pytest
from helpers import assert_equal_states
from keras_files import Layer, Model, write

from cifar_jax import Config, models
from cifar_jax.models import variables
from cifar_jax.models.keras.matching import known_networks
from cifar_jax.training import initial, program

CONFIG = Config(model="mobilenet", image_size=32, train_dir=None)


def mobilenet(classes):
    """Returns random variables of MobileNet, and Keras's layers of them, in its order.

    The last one is the head.
    """
    random = np.random.default_rng(0)
    found: dict[str, dict] = {"params": {}, "batch_stats": {}}
    for name, shape in variables.shapes(
        models.create("mobilenet", classes), 32
    ).items():
        layer, leaf = name.split("/")
        stats = "batch_stats" if leaf in ("mean", "var") else "params"
        value = random.random(shape, np.float32)
        found[stats].setdefault(layer, {})[leaf] = value
    layers = []
    for kind, names in known_networks()["mobilenet"].items():
        for name in names:
            own, stats = found["params"][name], found["batch_stats"].get(name, {})
            if kind == "batch_normalization":
                weights = {"gamma": own["scale"], "beta": own["bias"]}
                weights["moving_mean"] = stats["mean"]
                weights["moving_variance"] = stats["var"]
            elif kind == "depthwise_conv2d":
                weights = {"depthwise_kernel": np.swapaxes(own["kernel"], 2, 3)}
            else:
                weights = {n: own[n] for n in ("kernel", "bias") if n in own}
            layers.append(Layer(name, kind, weights))
    layers.sort(key=lambda layer: layer.name == "conv_preds")
    return found, layers


@pytest.mark.parametrize(
    ("ending", "named"),
    [(".h5", False), (".keras", True), (".weights.h5", True), (".weights.h5", False)],
)
def test_a_file_of_keras_with_another_head(dataset, tmp_path, ending, named):
    model = models.create("mobilenet", 3)
    expected, layers = mobilenet(3)
    head = Layer("my_head", "dense", {"kernel": np.ones((1024, 3), np.float32)})
    layers = [Model("mobilenet", layers[:-1]), head]
    path = write(tmp_path / f"cats{ending}", layers, named=named)
    start = initial.load(path, CONFIG, model, dataset.class_names)
    known = named or ending != ".weights.h5"
    assert start.left_out == ("my_head" if known else "dense",)
    assert start.new == ("conv_preds",)
    del expected["params"]["conv_preds"]
    assert_equal_states(start.variables, expected)


def test_a_head_for_another_number_of_classes(dataset, tmp_path):
    expected, layers = mobilenet(7)
    path = write(tmp_path / "seven.weights.h5", layers, named=False)
    model = models.create("mobilenet", 3)
    start = initial.load(path, CONFIG, model, dataset.class_names)
    assert (start.new, start.left_out) == (("conv_preds",), ())
    del expected["params"]["conv_preds"]
    assert_equal_states(start.variables, expected)


def test_the_log_says_what_is_new_and_what_is_left_out(dataset, tmp_path):
    _, layers = mobilenet(3)
    head = Layer("my_head", "dense", {"kernel": np.ones((1024, 3), np.float32)})
    path = write(tmp_path / "cats.h5", [*layers[:-1], head])
    settings = dataclasses.replace(CONFIG, init_from=str(path))
    lines: list[str] = []
    initial.load_weights(settings, program.build(settings, 3), dataset, lines.append)
    assert lines == [
        f"starting from the weights of {path}; new layers: conv_preds; layers left "
        "out: my_head"
    ]
