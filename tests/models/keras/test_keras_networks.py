"""Tests VGG, ResNet, MobileNet, Inception and Xception, also with Keras's weights.

The golden values come from golden/make_keras_golden.py. Differences are relative to
the tensor's norm.
"""

import functools
import zlib
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from golden import keras_weights
from keras_files import layers_of

from cifar_jax import models
from cifar_jax.errors import UserError

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "keras.npz")

# The order of sums differs. Measured on a CPU against TensorFlow: 3.1e-7 (vgg16),
# 6.5e-7 (vgg19), 3.5e-7 (resnet50) and 1.4e-6 (mobilenet) in the logits, and at most
# 8.3e-6 in a layer, mobilenet's last. There is no difference from Keras on JAX.
LOGITS = 1e-5
LAYERS = 3e-5

# As listed in the course, including BatchNorm's running statistics.
PARAMETERS = {
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "resnet50": 25_636_712,
    "mobilenet": 4_253_864,
    "inception_v3": 23_851_784,
    "xception": 22_910_480,
    "inception_resnet_v2": 55_873_736,
}
# Variants for CIFAR with 10 classes, without the running statistics.
TRAINABLE = {
    "vgg16_bn": 14_724_042,
    "vgg19_bn": 20_035_018,
    "resnet18": 11_173_962,
}
NETWORKS = [*PARAMETERS, *TRAINABLE]


def each_network(names):
    """Returns a decorator; the deepest network takes as long as all others together."""
    params = [
        pytest.param(name, marks=[pytest.mark.slow] * (name == "inception_resnet_v2"))
        for name in names
    ]
    return pytest.mark.parametrize("network", params)


def abstract_variables(model, size):
    """Returns the shapes and types of the variables, without values."""
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))


def random_variables(model):
    """Returns random variables of the model's structure, good enough for training."""
    random = np.random.RandomState(0)
    return jax.tree.map(
        lambda leaf: random.standard_normal(leaf.shape).astype(np.float32),
        abstract_variables(model, max(32, model.smallest_image)),
    )


def shapes_of_taps(model):
    """Returns the shapes of the activations by layer, for one CIFAR image."""
    run = functools.partial(model.init_with_output, mutable=True)
    size = max(32, model.smallest_image)
    images = jnp.zeros((1, size, size, 3))
    _, variables = jax.eval_shape(run, jax.random.key(0), images)
    taps = variables["intermediates"]["activations"]
    return {layer: value.shape for tap in taps for layer, value in tap.items()}


def size_of(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def apply(model, variables, images):
    """Returns the logits and the activations by layer."""
    run = jax.jit(functools.partial(model.apply, mutable="intermediates"))
    logits, state = run(variables, images)
    taps = {}
    for tap in state["intermediates"]["activations"]:
        taps |= tap
    return logits, taps


def error(value, golden, norm=None):
    """Returns the largest difference relative to a norm, by default the golden one."""
    norm = np.linalg.norm(golden) if norm is None else norm
    return float(np.abs(np.asarray(value) - golden).max() / norm)


@each_network(PARAMETERS)
def test_parameters_for_imagenet(network):
    variables = abstract_variables(models.create(network), 224)
    assert size_of(variables) == PARAMETERS[network]


@pytest.mark.parametrize("network", TRAINABLE)
def test_parameters_for_cifar(network):
    variables = abstract_variables(models.create(network), 32)
    assert size_of(variables["params"]) == TRAINABLE[network]


@each_network(NETWORKS)
def test_any_size_classes_and_dtype(network):
    model = models.create(network, num_classes=7, dtype=jnp.bfloat16)
    run = functools.partial(
        model.init_with_output, mutable=True, capture_intermediates=True
    )
    size = max(49, model.smallest_image)
    images = jnp.zeros((3, size, size + 17, 3))
    logits, variables = jax.eval_shape(run, jax.random.key(0), images)
    assert (logits.shape, logits.dtype) == ((3, 7), jnp.float32)
    intermediates = variables.pop("intermediates")
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    params = variables["params"]
    for layer in params:
        (output,) = intermediates[layer]["__call__"]
        assert output.dtype == jnp.bfloat16, layer
    tapped = [layer for tap in intermediates["activations"] for layer in tap]
    assert sorted(tapped) == sorted(name for name in params if "kernel" in params[name])


@pytest.mark.slow
@each_network(name for name in NETWORKS if name not in ("vgg16", "vgg19"))
def test_every_batch_norm_is_told_about_training(network):
    modes = []

    def record(call, args, options, context):
        if isinstance(context.module, nn.BatchNorm):
            modes.append(context.module.use_running_average)
        return call(*args, **options)

    model = models.create(network)
    variables = abstract_variables(model, max(49, model.smallest_image))
    images = jnp.zeros((2, *[max(49, model.smallest_image)] * 2, 3))
    for train in (True, False):
        apply = functools.partial(
            model.apply,
            train=train,
            mutable=True,
            rngs={"dropout": jax.random.key(0)},
        )
        modes.clear()
        with nn.intercept_methods(record):
            jax.eval_shape(apply, variables, images)
        assert modes == [not train] * len(variables["batch_stats"])


def test_sizes_in_the_cifar_variants():
    vgg = shapes_of_taps(models.create("vgg16_bn"))
    assert {layer: vgg[layer][1:] for layer in vgg if layer.endswith("1")} == {
        "block1_conv1": (32, 32, 64),
        "block2_conv1": (16, 16, 128),
        "block3_conv1": (8, 8, 256),
        "block4_conv1": (4, 4, 512),
        "block5_conv1": (2, 2, 512),
    }
    resnet = shapes_of_taps(models.create("resnet18"))
    sizes = {"conv1": 32, "conv2": 32, "conv3": 16, "conv4": 8, "conv5": 4}
    for layer, shape in resnet.items():
        if layer != "predictions":
            assert shape[1] == shape[2] == sizes[layer[:5]], layer


class KerasWeight(np.ndarray):
    """Stand-in for a Keras weight: an array that can be given a name."""


def keras_layer(kind, name, weights):
    """Returns a stand-in for a Keras layer, with what from_keras reads of it."""
    layer = type(kind, (), {})()
    layer.name = name
    layer.weights = [value.view(KerasWeight) for value in weights.values()]
    for weight, weight_name in zip(layer.weights, weights, strict=True):
        weight.name = weight_name
    return layer


def keras_model(network, case):
    """Returns a stand-in for the Keras model behind the golden values."""
    layers = {}
    for kind, layer, name, shape in GOLDEN[f"{case}/weights"].tolist():
        shape = tuple(map(int, shape.split("x")))
        weight = keras_weights.weight(network, layer, name, shape)
        layers.setdefault((kind, layer), {})[name] = weight
    return SimpleNamespace(
        layers=[
            keras_layer("InputLayer", "input_layer", {}),
            *[keras_layer(*layer, weights) for layer, weights in layers.items()],
        ]
    )


@pytest.mark.parametrize(
    ("network", "size"),
    [
        # By default, one is enough.
        pytest.param(*case, marks=[pytest.mark.slow] * (case != ("mobilenet", 75)))
        for case in keras_weights.CASES
    ],
)
def test_golden(network, size):
    case = f"{network}_{size}"
    model = models.create(network, num_classes=keras_weights.NUM_CLASSES)
    variables = models.from_keras(keras_model(network, case))
    expected = {"batch_stats": {}} | abstract_variables(model, size)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, expected)

    logits, taps = apply(model, variables, keras_weights.images(size))
    # In Keras, the first half of a separable convolution is not a layer.
    tapped = [name for name in taps if not name.endswith("_depthwise")]
    assert sorted(tapped) == sorted(GOLDEN[f"{case}/layers"])
    errors = {
        layer: error(keras_weights.short_digest(taps[layer]), golden, norm=golden[0])
        for layer, golden in zip(
            GOLDEN[f"{case}/layers"].tolist(), GOLDEN[f"{case}/digests"], strict=True
        )
    }
    assert max(errors.values()) < LAYERS, errors
    assert error(logits, GOLDEN[f"{case}/logits"]) < LOGITS


# The golden values are of Keras's other networks, too.
@pytest.mark.slow
@pytest.mark.parametrize("network", ["mobilenet", "resnet50", "xception"])
def test_keras(keras, network):
    keras.utils.set_random_seed(0)
    model = models.create(network, num_classes=10)
    size = max(40, model.smallest_image)
    theirs = getattr(keras.applications, keras_weights.KERAS_NAMES[network])(
        weights=None,
        classes=10,
        input_shape=(size, size, 3),
        classifier_activation=None,
    )
    for layer in theirs.layers:
        for weight in layer.weights:
            if "normalization" in weight.path or "_bn" in weight.path:
                # Keras's initial values are the same in all layers.
                random = np.random.RandomState(zlib.crc32(weight.path.encode()))
                weight.assign(np.exp(0.1 * random.standard_normal(weight.shape)))
    images = keras_weights.images(size)
    logits = jax.jit(model.apply)(models.from_keras(theirs), images)
    assert error(logits, theirs.predict(images, verbose=0)) < LOGITS


@pytest.mark.parametrize(
    ("network", "layer", "sigma"),
    [
        # Glorot: variance of 1 over the mean of inputs and outputs.
        ("vgg16", "fc1", np.sqrt(2 / (512 + 4096))),
        ("resnet50", "conv4_block2_2_conv", np.sqrt(1 / (9 * 256))),
        ("mobilenet", "conv_pw_13", np.sqrt(1 / 1024)),
        # He: variance of 2 over the inputs.
        ("vgg16_bn", "block4_conv1", np.sqrt(2 / (9 * 256))),
        ("resnet18", "conv5_block1_1_conv", np.sqrt(2 / (9 * 256))),
    ],
)
def test_initializers(network, layer, sigma):
    model = models.create(network)

    # Under jit, XLA omits all other layers, which would take seconds.
    @jax.jit
    def kernel_of_layer(key):
        return model.init(key, jnp.zeros((1, 32, 32, 3)))["params"][layer]["kernel"]

    kernel = np.asarray(kernel_of_layer(jax.random.key(0)))
    assert kernel.std() == pytest.approx(sigma, rel=0.01)
    assert abs(kernel.mean()) < 0.01 * sigma


def test_blocks_of_resnet18_add_to_their_input():
    model = models.create("resnet18")
    variables = random_variables(model)
    # This cancels the convolutions of the first block.
    last = variables["params"]["conv2_block1_2_bn"]
    last["scale"] = last["bias"] = jnp.zeros(64)

    @jax.jit
    def taps_around_the_block(variables):
        images = jnp.asarray(keras_weights.images(32))
        _, state = model.apply(variables, images, train=True, mutable=True)
        taps = state["intermediates"]["activations"]
        return taps[0]["conv1_conv"], taps[2]["conv2_block1_2_conv"]

    before, after = taps_around_the_block(variables)
    np.testing.assert_array_equal(before, after)


def test_numbered_and_separable_layers_get_the_names_of_our_networks():
    def of_the_second_model(name):
        for kind, first in (("conv2d", 9), ("batch_normalization", 40)):
            if name.startswith(kind):
                return f"{kind}_{int(name[len(kind) + 1 :] or 0) + first}"
        return name

    layers = [
        keras_layer(kind, of_the_second_model(name), weights)
        # Keras does not list layers by their numbers.
        for name, kind, weights in reversed(layers_of("xception"))
    ]
    assert {"conv2d_9", "batch_normalization_43"} < {layer.name for layer in layers}
    found = models.from_keras(SimpleNamespace(layers=layers))
    for name, _, weights in layers_of("xception"):
        if "depthwise_kernel" in weights:
            depthwise = found["params"][f"{name}_depthwise"]["kernel"]
            expected = weights["depthwise_kernel"]
            np.testing.assert_array_equal(depthwise[:, :, 0], expected[..., 0])
            pointwise = found["params"][f"{name}_pointwise"]["kernel"]
            np.testing.assert_array_equal(pointwise, weights["pointwise_kernel"])
        elif "kernel" in weights:
            kernel = found["params"][name]["kernel"]
            np.testing.assert_array_equal(kernel, weights["kernel"])
        else:
            mean = found["batch_stats"][name]["mean"]
            np.testing.assert_array_equal(mean, weights["moving_mean"])


def test_weights_without_a_counterpart():
    layer = keras_layer("Dense", "odd", {"lora_kernel_a": np.zeros((3, 3))})
    with pytest.raises(UserError, match="'odd' has an unsupported weight 'lora_"):
        models.from_keras(SimpleNamespace(layers=[layer]))
