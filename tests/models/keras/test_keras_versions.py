"""Tests that files of all versions of Keras are read, and of which network they are."""

import itertools
import zipfile

import h5py
import jax
import ml_dtypes
import numpy as np
import pytest
from golden import keras_weights
from helpers import assert_equal_states
from keras_files import Layer, Model, layers_of, write
from test_keras_files import LAYERS
from test_keras_networks import GOLDEN

from cifar_jax import UserError, models
from cifar_jax.models.keras import weights
from cifar_jax.models.keras.matching import HEADS, known_networks

KINDS = {
    "Conv2D": "conv2d",
    "Dense": "dense",
    "DepthwiseConv2D": "depthwise_conv2d",
    "SeparableConv2D": "separable_conv2d",
    "BatchNormalization": "batch_normalization",
}
NUMBERED = (".weights.h5", ".keras")
# Besides mobilenet, networks of every kind of layer; in three of them, Keras has
# another order than we do.
NETWORKS = ("vgg16", "resnet50", "xception", "inception_v3")


def expected_of(layers):
    """Returns the variables that these layers are converted to."""
    leaves = {"gamma": "scale", "beta": "bias", "moving_mean": "mean"}
    params, stats = {}, {}
    for layer in layers:
        for weight, value in layer.weights.items():
            own, leaf = layer.name, leaves.get(weight, weight)
            if layer.kind == "separable_conv2d":
                own += "_" + weight.split("_")[0]
            if weight == "depthwise_kernel":
                value = np.swapaxes(value, 2, 3)
            if weight == "moving_variance":
                leaf = "var"
            leaf = "kernel" if "kernel" in leaf else leaf
            where = stats if weight.startswith("moving") else params
            where.setdefault(own, {})[leaf] = value
    return {"params": params, "batch_stats": stats}


def renamed(layers, rename):
    return [layer._replace(name=rename(layer.name)) for layer in layers]


def body_of(network):
    return [layer for layer in layers_of(network) if layer.name not in HEADS]


def dense(name):
    return Layer(name, "dense", {"kernel": np.ones((2, 5)), "bias": np.ones(5)})


@pytest.mark.parametrize("case", keras_weights.CASES)
def test_the_layers_and_their_order_are_those_of_keras(case):
    found: dict[str, list[str]] = {}
    for kind, layer, *_ in GOLDEN["{}_{}/weights".format(*case)].tolist():
        own = found.setdefault(KINDS[kind], [])
        if layer not in own:
            own.append(layer)
    assert known_networks()[case[0]] == {
        kind: tuple(own) for kind, own in found.items()
    }


# As Keras 3.6 and later, tf_keras and Keras to 3.5, Keras 2.13, and on Windows.
OPTIONS = (
    {},
    {"named": False},
    {"named": False, "container": "_layer_checkpoint_dependencies"},
    {"named": False, "separator": "\\"},
)


@pytest.mark.parametrize(
    ("network", "ending", "options"),
    [
        *((network, ".weights.h5", {"named": False}) for network in NETWORKS),
        *itertools.product(["mobilenet"], NUMBERED, OPTIONS),
    ],
)
def test_each_way_to_number_layers(tmp_path, network, ending, options):
    layers = layers_of(network)
    path = write(tmp_path / f"model{ending}", layers, **options)
    assert_equal_states(models.from_keras(path, network), expected_of(layers))
    assert_equal_states(models.from_keras(path), expected_of(layers))


@pytest.mark.parametrize("container", ["layers", "_layer_checkpoint_dependencies"])
def test_names_in_config_json_are_used(tmp_path, container):
    # Names that do not say the order, of a network of one's own.
    layers = [*LAYERS, *renamed(LAYERS, "{}_too".format)]
    layers = [Model("a", layers), Model("b", renamed(layers, "{}_b".format))]
    path = write(tmp_path / "m.keras", layers, named=False, container=container)
    expected = expected_of([layer for model in layers for layer in model.layers])
    assert_equal_states(models.from_keras(path), expected)


def test_a_file_without_any_names_of_an_unknown_network(tmp_path):
    path = write(tmp_path / "model.weights.h5", LAYERS, named=False)
    for model in (None, "tutorial"):
        with pytest.raises(
            UserError, match="which layer batch_normalization is: it has"
        ):
            models.from_keras(path, model)
    with pytest.raises(UserError, match="has 1 of the kind conv2d, but vgg16 has 13"):
        models.from_keras(path, "vgg16")


def test_names_that_keras_made_are_of_no_unknown_network(tmp_path):
    layers = [Layer("conv2d_5", *LAYERS[0][1:]), *LAYERS[1:]]
    path = write(tmp_path / "model.h5", layers)
    with pytest.raises(
        UserError, match="which layer conv2d_5 is: it has no name of its"
    ):
        models.from_keras(path)


def test_an_archive_that_was_packed_on_windows(tmp_path):
    layers = layers_of("vgg16")
    path = write(tmp_path / "model.keras", layers, named=False)
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(f"model\\{name}", content)
    assert_equal_states(models.from_keras(path), expected_of(layers))


@pytest.mark.parametrize("ending", [".h5", *NUMBERED])
def test_bfloat16(tmp_path, ending):
    layers = [
        layer._replace(
            weights={
                name: (value / 3).astype(ml_dtypes.bfloat16)
                for name, value in layer.weights.items()
            }
        )
        for layer in LAYERS
    ]
    path = write(tmp_path / f"model{ending}", layers)
    expected = jax.tree.map(np.float32, expected_of(layers))
    assert_equal_states(models.from_keras(path), expected)


def test_integers_are_refused(tmp_path):
    layer = dense("fc")
    layer.weights["kernel"] = np.ones((2, 5), np.int8)
    path = write(tmp_path / "model.h5", [layer])
    with pytest.raises(UserError, match="kernel of layer 'fc' is of type int8"):
        models.from_keras(path)


# With names where each format has them, and without.
FORMATS = [
    (".h5", {}),
    (".weights.h5", {}),
    (".weights.h5", {"named": False}),
    (".keras", {"named": False}),
]


@pytest.mark.parametrize(
    ("network", "ending", "options"),
    [
        *(("resnet50", *own) for own in FORMATS),
        ("inception_v3", ".weights.h5", {"named": False}),
    ],
)
def test_a_network_in_a_model_with_another_head(tmp_path, network, ending, options):
    norm = layers_of("resnet50")[60]._replace(name="batch_normalization_400")
    head = [norm, dense("dense_1"), dense("my_classes")]
    assert norm.kind == "batch_normalization"
    body = body_of(network)
    path = write(tmp_path / f"m{ending}", [Model("base", body), *head], **options)
    for model in (None, network):
        found, left_out = weights.convert(path, model)
        assert_equal_states(found, expected_of(body))
        assert len(left_out) == 3
        if ending == ".h5" or options == {}:
            assert set(left_out) == {layer.name for layer in head}
    with pytest.raises(
        UserError, match=f"m{ending} has more than the network: it also"
    ):
        models.from_keras(path, network)


@pytest.mark.parametrize("ending", [".h5", *NUMBERED])
def test_a_network_that_another_head_continues(tmp_path, ending):
    body = body_of("xception")
    path = write(tmp_path / f"m{ending}", [*body, dense("d"), dense("e")], named=False)
    found, left_out = weights.convert(path, "xception")
    assert_equal_states(found, expected_of(body))
    assert len(left_out) == 2


def test_a_layer_before_a_network(tmp_path):
    body = body_of("vgg16")
    path = write(tmp_path / "m.h5", [Layer("gray", *body[0][1:]), *body])
    message = "a layer gray before block1_conv1, but vgg16 does not"
    with pytest.raises(UserError, match=message):
        weights.convert(path, "vgg16")


@pytest.mark.parametrize(("ending", "options"), FORMATS)
def test_another_network(tmp_path, ending, options):
    path = write(tmp_path / f"m{ending}", layers_of("vgg19"), **options)
    for model in ("vgg16", "resnet50"):
        with pytest.raises(
            UserError, match=f"m{ending}: .*; its layers are those of vg"
        ):
            models.from_keras(path, model)


def test_two_networks_in_a_model(tmp_path):
    body = body_of("vgg16")
    path = write(tmp_path / "m.h5", [Model("a", body), Model("b", body)])
    with pytest.raises(UserError, match="it has two layers block1_conv1"):
        models.from_keras(path, "vgg16")


def test_a_model_in_a_model_in_memory():
    class Weight(np.ndarray):
        pass

    class Any:
        def __init__(self, **attributes):
            self.__dict__ |= attributes

    def layer(own):
        arrays = []
        for name, value in own.weights.items():
            array = value.view(Weight)
            # As tf_keras names them.
            array.name = f"{own.name}/{name}:0"
            arrays.append(array)
        return Any(name=own.name, weights=arrays)

    layers = layers_of("mobilenet")
    inner = Any(name="base", layers=list(map(layer, layers)), weights=[0])
    assert_equal_states(models.from_keras(Any(layers=[inner])), expected_of(layers))


@pytest.mark.parametrize(
    ("ending", "number"),
    [(".h5", np.nan), (".weights.h5", np.inf), (".keras", np.nan)],
)
def test_numbers_that_are_not_finite(tmp_path, ending, number):
    layers = layers_of("resnet50")
    layers[60].weights["moving_variance"][1] = number
    path = write(tmp_path / f"m{ending}", layers)
    name = f"batch_stats/{layers[60].name}/var"
    message = rf"m{ending}: it has non-finite values in {name} \(1 of 2\)"
    with pytest.raises(UserError, match=message):
        models.from_keras(path)


def test_a_head_for_one_class(tmp_path):
    layers = layers_of("mobilenet")
    index = [layer.name for layer in layers].index("conv_preds")
    kernel = np.ones((1, 1, 2, 1), np.float32)
    layers[index] = Layer("conv_preds", "conv2d", {"kernel": kernel})
    path = write(tmp_path / "m.weights.h5", layers)
    found = models.from_keras(path)["params"]["conv_preds"]["kernel"]
    np.testing.assert_array_equal(found, kernel)


def test_random_numbers_of_layers_are_no_weights(tmp_path):
    path = write(tmp_path / "m.weights.h5", LAYERS)
    with h5py.File(path, "a") as file:
        file["layers/dropout/seed_generator/vars/0"] = np.zeros(2, np.uint32)
        file["optimizer/vars/0"] = np.zeros(3)
    assert_equal_states(models.from_keras(path), expected_of(LAYERS))
