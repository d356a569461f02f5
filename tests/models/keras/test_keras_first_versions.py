"""Tests that files of Keras 1, and of Keras on Theano and TensorFlow 1, are read."""

import h5py
import numpy as np
import pytest
from helpers import assert_equal_states
from keras_files import Layer, layers_of, write, write_first_version
from test_keras_files import LAYERS
from test_keras_versions import expected_of, renamed

from cifar_jax import UserError, models
from cifar_jax.models.keras import names


def keras_1(name):
    """Returns the name of a layer in Keras 1, whose numbers begin at 1."""
    for kind, first in (
        ("conv2d", "convolution2d"),
        ("batch_normalization", "batchnormalization"),
    ):
        if name.startswith(kind):
            return f"{first}_{int(name[len(kind) + 1 :] or 0) + 1}"
    return name


@pytest.mark.parametrize("network", ["xception", "inception_v3"])
def test_names_of_keras_1(tmp_path, network):
    layers = layers_of(network)
    path = write_first_version(tmp_path / "x.h5", renamed(layers, keras_1))
    with h5py.File(path) as file:
        assert "batchnormalization_1_running_std_1:0" in file["batchnormalization_1"]
    assert_equal_states(models.from_keras(path), expected_of(layers))


# From the published source of resnet50.py of Keras 1 to 2.2.
RESNET50 = {
    "conv1_conv": "conv1",
    "conv1_bn": "bn_conv1",
    "conv2_block1_0_conv": "res2a_branch1",
    "conv2_block1_1_conv": "res2a_branch2a",
    "conv2_block1_2_bn": "bn2a_branch2b",
    "conv2_block1_3_conv": "res2a_branch2c",
    "conv4_block6_1_conv": "res4f_branch2a",
    "conv5_block3_3_bn": "bn5c_branch2c",
    "predictions": "fc1000",
}


def test_names_of_resnet50_in_keras_1(tmp_path):
    for name, old in RESNET50.items():
        assert names.to_current([old], "resnet50") == [name]
    assert names.to_current(["conv1"], "mobilenet") == ["conv1"]
    old = dict(RESNET50)
    for stage, blocks in ((2, "abc"), (3, "abcd"), (4, "abcdef"), (5, "abc")):
        for block in blocks:
            for number, branch in enumerate(("1", "2a", "2b", "2c")):
                for what, suffix in (("res", "conv"), ("bn", "bn")):
                    own = f"conv{stage}_block{'abcdef'.index(block) + 1}_{number}"
                    old[f"{own}_{suffix}"] = f"{what}{stage}{block}_branch{branch}"
    layers = layers_of("resnet50")
    path = write_first_version(tmp_path / "r.h5", renamed(layers, old.__getitem__))
    for model in (None, "resnet50"):
        assert_equal_states(models.from_keras(path, model), expected_of(layers))


def test_the_second_network_in_a_graph_of_tensorflow_1(tmp_path):
    layers = layers_of("mobilenet")
    path = write(tmp_path / "m.h5", renamed(layers, "{}_1".format))
    assert_equal_states(models.from_keras(path, "mobilenet"), expected_of(layers))


def of_theano(path, group=None):
    with h5py.File(path, "a") as file:
        (file[group] if group else file).attrs["backend"] = b"theano"


def test_kernels_of_theano_are_turned(tmp_path):
    random = np.random.default_rng(0)
    layers = [
        Layer(name, "", {w: random.normal(size=v.shape) for w, v in own.items()})
        for name, _, own in LAYERS
    ]
    path = write(tmp_path / "model.h5", layers)
    plain = models.from_keras(path)
    of_theano(path)
    found = models.from_keras(path)
    kernel = found["params"]["conv"].pop("kernel")
    given = plain["params"]["conv"].pop("kernel")
    np.testing.assert_array_equal(kernel, np.flip(given, (0, 1)))
    assert not np.array_equal(kernel, given)
    # Theano sums x[i - k] w[k] over k, Flax x[i + k] w[k].
    column = layers[0].weights["kernel"][:, 1, 0, 0].astype(np.float32)
    signal = random.normal(size=9)
    np.testing.assert_allclose(
        np.convolve(signal, column, "valid"),
        np.correlate(signal, kernel[:, 1, 0, 0], "valid"),
    )
    # All else stays, as Keras turned depthwise kernels itself before it called Theano.
    assert_equal_states(found, plain)


def test_theano_in_a_whole_model_or_in_the_name_of_the_file(tmp_path):
    path = write(tmp_path / "model.h5", LAYERS)
    kernel = np.flip(models.from_keras(path)["params"]["conv"]["kernel"], (0, 1))
    named = tmp_path / "vgg16_weights_tf_dim_ordering_th_kernels.h5"
    named.write_bytes(path.read_bytes())
    with h5py.File(path) as file, h5py.File(tmp_path / "whole.h5", "w") as whole:
        file.copy("/", whole, "model_weights")
    of_theano(tmp_path / "whole.h5", "model_weights")
    of_theano(path, "conv")
    for other in (named, tmp_path / "whole.h5", path):
        found = models.from_keras(other)["params"]["conv"]["kernel"]
        np.testing.assert_array_equal(found, kernel)


@pytest.mark.parametrize("outputs", [8, 64])
def test_channels_first(tmp_path, outputs):
    layer = Layer("block1_conv1", "", {"kernel": np.zeros((outputs, 3, 3, 3))})
    path = write_first_version(tmp_path / "th.h5", [layer])
    message = rf"has its channels first, .*\({outputs}, 3, 3, 3\).*tf_dim_ordering"
    with pytest.raises(UserError, match=message):
        models.from_keras(path)
