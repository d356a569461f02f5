"""Tests that Keras's files of weights are read without Keras, by Keras too."""

import zipfile

import h5py
import jax
import numpy as np
import pytest
from golden.keras_weights import KERAS_NAMES
from helpers import assert_equal_states
from keras_files import Layer, write, write_first_version

from cifar_jax import UserError, models
from cifar_jax.models import variables
from cifar_jax.models.keras import imagenet

FORMATS = (".weights.h5", ".h5", ".keras")


def array(*shape):
    """Returns an array of numbers that are all different."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


LAYERS = [
    Layer("conv", "conv2d", {"kernel": array(3, 3, 3, 8), "bias": array(8)}),
    Layer("dw", "depthwise_conv2d", {"depthwise_kernel": array(3, 3, 8, 1)}),
    Layer(
        "sep",
        "separable_conv2d",
        {
            "depthwise_kernel": array(3, 3, 8, 1),
            "pointwise_kernel": array(1, 1, 8, 4),
        },
    ),
    Layer(
        "norm",
        "batch_normalization",
        {
            "gamma": array(4),
            "beta": array(4) + 1,
            "moving_mean": array(4) + 2,
            "moving_variance": array(4) + 3,
        },
    ),
    Layer(
        "unscaled",
        "batch_normalization",
        {
            "beta": array(4) + 1,
            "moving_mean": array(4) + 2,
            "moving_variance": array(4) + 3,
        },
    ),
    Layer("predictions", "dense", {"kernel": array(4, 7), "bias": array(7)}),
]
CONVERTED = {
    "params": {
        "conv": {"kernel": array(3, 3, 3, 8), "bias": array(8)},
        "dw": {"kernel": array(3, 3, 1, 8)},
        "sep_depthwise": {"kernel": array(3, 3, 1, 8)},
        "sep_pointwise": {"kernel": array(1, 1, 8, 4)},
        "norm": {"scale": array(4), "bias": array(4) + 1},
        "unscaled": {"bias": array(4) + 1},
        "predictions": {"kernel": array(4, 7), "bias": array(7)},
    },
    "batch_stats": {
        "norm": {"mean": array(4) + 2, "var": array(4) + 3},
        "unscaled": {"mean": array(4) + 2, "var": array(4) + 3},
    },
}


@pytest.mark.parametrize("ending", FORMATS)
def test_each_format(tmp_path, ending):
    path = write(tmp_path / f"model{ending}", LAYERS)
    assert_equal_states(models.from_keras(path), CONVERTED)
    assert_equal_states(models.from_keras(str(path)), CONVERTED)


def test_the_format_of_the_first_keras(tmp_path):
    layers = [LAYERS[0], LAYERS[-1]]
    found = models.from_keras(write_first_version(tmp_path / "vgg.h5", layers))
    names = ("conv", "predictions")
    assert_equal_states(
        found["params"], {name: CONVERTED["params"][name] for name in names}
    )


def truncate(path):
    path.write_bytes(path.read_bytes()[:3000])


def overwrite_with(content):
    return lambda path: path.write_bytes(content)


def without_weights(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")


def drop_a_value(path):
    with h5py.File(path, "a") as file:
        del file["layers/conv2d/vars/0"]


def drop_a_named_value(path):
    with h5py.File(path, "a") as file:
        del file["conv/conv/kernel:0"]


def another_kind(path):
    write(path, [Layer("memory", "lstm", {"kernel": array(3, 4)})])


def another_file(path):
    with h5py.File(path, "w") as file:
        file["measurements"] = array(3)


def a_directory(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("ending", "damage", "message"),
    [
        (".weights.h5", truncate, "damaged, or not a Keras weights file: .*trunc"),
        (".keras", truncate, "damaged, or not a Keras weights file"),
        (".h5", overwrite_with(b""), "damaged, or not a Keras weights file"),
        (".h5", overwrite_with(b"\n".join([b"no weights"] * 99)), "damaged, or not"),
        (".keras", without_weights, "damaged, or not .*model.weights.h5"),
        (".weights.h5", drop_a_value, "kernel of layer 'conv' is missing or dam"),
        (".h5", drop_a_named_value, "kernel of layer 'conv' is missing or damaged"),
        (".weights.h5", another_kind, "layer 'memory' is of the kind lstm, with 1 w"),
        (".h5", another_file, "has no weights of Keras layers"),
        (".h5", a_directory, "is a directory"),
        (".h5", lambda path: path.unlink(), "there is no file"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, ending, damage, message):
    path = write(tmp_path / f"model{ending}", LAYERS)
    damage(path)
    with pytest.raises(UserError, match=message) as error:
        models.from_keras(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.fixture(scope="module")
def mobilenet():
    """Returns MobileNet for seven classes, and variables of its shapes."""
    network = models.create("mobilenet", num_classes=7)
    shapes = variables.shapes(network, 32)
    found = {"params": {}, "batch_stats": {}}
    for name, shape in shapes.items():
        layer, leaf = name.split("/")
        collection = "batch_stats" if leaf in ("mean", "var") else "params"
        found[collection].setdefault(layer, {})[leaf] = np.zeros(shape, np.float32)
    return network, found


def test_variables_that_fit(mobilenet):
    network, found = mobilenet
    variables.check(found, network, 32, "FILE")
    assert variables.num_classes(found, network, "FILE") == 7
    assert variables.drop_misfits(found, network, 32) == (found, ())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv1": {}}, r"FILE has no conv1/kernel of shape \(3, 3, 3, 32\), which M"),
        (
            {"conv1": {"kernel": array(3, 3, 4, 32)}},
            r"FILE has conv1/kernel of shape \(3, 3, 4, 32\), but in MobileNet it has s"
            r"hape \(3, 3, 3, 32\), for 7 classes and images of 32x32",
        ),
        (
            {"conv9": {"kernel": array(2, 2)}},
            r"FILE has conv9/kernel of shape \(2, 2\), which MobileNet does not have",
        ),
    ],
)
def test_variables_that_do_not_fit(mobilenet, changes, message):
    network, found = mobilenet
    odd = found | {"params": found["params"] | changes}
    with pytest.raises(UserError, match=message):
        variables.check(odd, network, 32, "FILE")


def test_a_classifier_of_other_classes_is_left_out(mobilenet):
    network, found = mobilenet
    other = models.create("mobilenet", num_classes=10)
    rest, missing = variables.drop_misfits(found, other, 32)
    assert missing == ("conv_preds",)
    assert set(found["params"]) - set(rest["params"]) == {"conv_preds"}
    variables.check(rest, other, 32, "FILE", missing)
    # As Keras saves it with include_top=False.
    assert variables.drop_misfits(rest, network, 32) == (rest, missing)
    with pytest.raises(UserError, match="FILE has no layer conv_preds, the last one"):
        variables.num_classes(rest, network, "FILE")


def test_of_a_vgg_for_another_size_only_the_convolutions_are_kept():
    large = models.create("vgg16", num_classes=10)
    found = jax.eval_shape(
        large.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), "float32")
    )
    _, missing = variables.drop_misfits(found, large, 32)
    assert missing == ("fc1", "fc2", "predictions")
    other = models.create("vgg16", num_classes=3)
    assert variables.drop_misfits(found, other, 224)[1] == ("predictions",)


def test_class_names_are_those_of_keras():
    names = imagenet.class_names(1000)
    assert len(set(names)) == 1000
    assert [names[i] for i in (0, 134, 281, 517, 639, 999)] == [
        *("tench", "crane", "tabby", "crane_(machine)", "maillot_(tank_suit)"),
        "toilet_tissue",
    ]
    assert imagenet.class_names(3) == ("0", "1", "2")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:keras")
# Of every kind of layer, of layers with and without names, and of long lists of them.
@pytest.mark.parametrize("network", ["mobilenet", "inception_v3", "xception"])
def test_files_that_keras_writes(keras, tmp_path, network):
    keras.utils.set_random_seed(0)
    build = getattr(keras.applications, KERAS_NAMES[network])
    size = max(32, models.create(network).smallest_image)
    theirs = build(weights=None, classes=10, input_shape=(size, size, 3))
    for layer in theirs.layers:
        for number, weight in enumerate(layer.weights):
            # Different in each weight, as Keras's initial values are not.
            weight.assign_add(np.full(weight.shape, number + 1, np.float32))
    expected = models.from_keras(theirs)
    for ending in FORMATS:
        path = tmp_path / f"model{ending}"
        if ending == ".weights.h5":
            theirs.save_weights(path)
        else:
            theirs.save(path)
        assert_equal_states(models.from_keras(path), expected)
