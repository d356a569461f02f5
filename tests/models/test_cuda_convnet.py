"""Tests cuda-convnet's networks against NumPy loops and lax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.linen.initializers import normal
from scipy import stats

from cifar_jax.models.cuda_convnet import (
    CudaConvnet11pct,
    CudaConvnet18pct,
    LocallyConnected,
)

NETWORKS = {CudaConvnet18pct: 32, CudaConvnet11pct: 24}  # Image sizes.
# Layer: kernel shape, bias shape, sigma of the initialization.
LAYERS = {
    CudaConvnet18pct: {
        "conv1": ((5, 5, 3, 32), (32,), 1e-4),
        "conv2": ((5, 5, 32, 32), (32,), 0.01),
        "conv3": ((5, 5, 32, 64), (64,), 0.01),
        "logits": ((4 * 4 * 64, 10), (10,), 0.01),
    },
    CudaConvnet11pct: {
        "conv1": ((5, 5, 3, 64), (64,), 1e-4),
        "conv2": ((5, 5, 64, 64), (64,), 0.01),
        "local3": ((6, 6, 9 * 64, 64), (6, 6, 64), 0.04),
        "local4": ((6, 6, 9 * 64, 32), (6, 6, 32), 0.04),
        "logits": ((6 * 6 * 32, 10), (10,), 0.01),
    },
}
networks = pytest.mark.parametrize("network", NETWORKS)


def trained(network):
    """Returns parameters for which every operation and the biases matter."""
    rng = np.random.RandomState(0)

    def layer(kernel, bias, _):
        fan_in = np.prod(kernel[:-1] if kernel[0] == 5 else kernel[-2])
        return {
            "kernel": np.float32(rng.standard_normal(kernel) * (2 / fan_in) ** 0.5),
            "bias": np.float32(rng.standard_normal(bias)),
        }

    return {name: layer(*shapes) for name, shapes in LAYERS[network].items()}


def pictures(network, count):
    # Pixels of 0..255 minus their mean, which the networks were trained on.
    size = NETWORKS[network]
    rng = np.random.RandomState(1)
    return np.float32(rng.uniform(-128, 128, (count, size, size, 3)))


@networks
def test_parameters(network):
    images = jnp.zeros((1, NETWORKS[network], NETWORKS[network], 3))
    params = jax.eval_shape(network().init, jax.random.key(0), images)["params"]
    assert jax.tree.map(jnp.shape, params) == {
        layer: {"kernel": kernel, "bias": bias}
        for layer, (kernel, bias, _) in LAYERS[network].items()
    }
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert f"{count:,} parameters" in " ".join(network.__doc__.split())


@networks
def test_initializers(network):
    images = jnp.zeros((1, NETWORKS[network], NETWORKS[network], 3))
    # lax's operations compile faster, and only the parameters are computed.
    params = jax.jit(network(ops="plain").init)(jax.random.key(0), images)["params"]
    for layer, (_, _, sigma) in LAYERS[network].items():
        assert not params[layer]["bias"].any()
        kernel = np.asarray(params[layer]["kernel"], float).ravel()[:50_000] / sigma
        assert stats.kstest(kernel, stats.norm.cdf).pvalue > 1e-3
        assert np.abs(kernel).max() > 2.5  # Not truncated.


@networks
def test_decays(network):
    # The values of cuda-convnet's layer files.
    decays = {layer: 0.004 * factor for layer, factor in network.weight_decays.items()}
    convolutions = dict.fromkeys(["conv1", "conv2", "conv3"], 0.004)
    assert decays == pytest.approx(
        {
            CudaConvnet18pct: {**convolutions, "logits": 1},
            CudaConvnet11pct: {"local3": 0.004, "local4": 0.004, "logits": 0.01},
        }[network]
    )


# The networks in NumPy, for one image (height, width, channel) in float64.


def windows(x, size, stride, first):
    """Yields the size x size windows, clipped at the edges of the image."""
    for i, top in enumerate(range(first, x.shape[0] + first, stride)):
        for j, left in enumerate(range(first, x.shape[1] + first, stride)):
            rows = slice(max(top, 0), top + size)
            yield i, j, x[rows, max(left, 0) : left + size]


def pooled(x, statistic):
    out = np.empty((-(-x.shape[0] // 2), -(-x.shape[1] // 2), x.shape[2]))
    for i, j, window in windows(x, 3, 2, 0):
        out[i, j] = statistic(window, axis=(0, 1))
    return out


def norm_within_maps(x):
    out = np.empty_like(x)
    for i, j, window in windows(x, 3, 1, -1):
        scale = 1 + 5e-5 / 9 * (window**2).sum(axis=(0, 1))
        out[i, j] = x[i, j] / scale**0.75
    return out


def norm_across_maps(x):
    out = np.empty_like(x)
    for channel in range(x.shape[2]):
        nearby = x[:, :, max(0, channel - 4) : channel + 5]
        scale = 1 + 0.001 / 9 * (nearby**2).sum(axis=2)
        out[:, :, channel] = x[:, :, channel] / scale**0.75
    return out


def convolved(x, kernel, bias):
    h, w, _ = x.shape
    padded = np.pad(x, ((2, 2), (2, 2), (0, 0)))
    out = np.empty((h, w, kernel.shape[3]))
    for i, j in np.ndindex(h, w):
        out[i, j] = np.tensordot(padded[i : i + 5, j : j + 5], kernel, 3) + bias
    return out


def locally_connected(x, kernel, bias):
    h, w, c = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    out = np.array(bias, float)
    for i, j, channel, p, q in np.ndindex(h, w, c, 3, 3):
        value = padded[i + p, j + q, channel]
        out[i, j] += value * kernel[i, j, 9 * channel + 3 * p + q]
    return out


def relu(x):
    return np.maximum(x, 0)


def logits_18pct(x, params):
    x = pooled(convolved(x, **params["conv1"]), np.max)
    x = norm_within_maps(relu(x))
    x = pooled(relu(convolved(x, **params["conv2"])), np.mean)
    x = norm_within_maps(x)
    x = pooled(relu(convolved(x, **params["conv3"])), np.mean)
    return x.ravel() @ params["logits"]["kernel"] + params["logits"]["bias"]


def logits_11pct(x, params):
    x = pooled(relu(convolved(x, **params["conv1"])), np.max)
    x = norm_across_maps(x)
    x = norm_across_maps(relu(convolved(x, **params["conv2"])))
    x = pooled(x, np.max)
    x = relu(locally_connected(x, **params["local3"]))
    x = relu(locally_connected(x, **params["local4"]))
    return x.ravel() @ params["logits"]["kernel"] + params["logits"]["bias"]


def relative_error(value, expected):
    return np.linalg.norm(value - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("ops", ["fast", "plain"])
@networks
def test_logits(network, ops):
    params, images = trained(network), pictures(network, 2)
    logits = jax.jit(network(ops=ops).apply)({"params": params}, images)
    by_hand = {CudaConvnet18pct: logits_18pct, CudaConvnet11pct: logits_11pct}[network]
    expected = np.stack([by_hand(np.float64(image), params) for image in images])
    assert relative_error(logits, expected) < 1e-5  # measured: 6e-7


def test_lrn_divides_by_the_pixels_of_the_square():
    network = CudaConvnet18pct(lrn_radius=2, lrn_scale=0.5, lrn_power=2.0)
    normed = network.norm(jnp.ones((5, 5, 1, 1)))
    assert normed[2, 2, 0, 0] == pytest.approx(1 / 1.5**2)
    # Of the 25 pixels, 9 are in the image.
    assert normed[0, 0, 0, 0] == pytest.approx(1 / (1 + 0.5 * 9 / 25) ** 2)


@pytest.mark.slow
@networks
def test_bfloat16(network):
    params, images = trained(network), pictures(network, 4)
    logits = jax.jit(network(dtype=jnp.bfloat16).apply)({"params": params}, images)
    expected = jax.jit(network().apply)({"params": params}, images)
    assert logits.dtype == jnp.float32
    # Less accurate than float32, so bfloat16 is in use (measured: 0.004 and 0.005).
    assert 1e-4 < relative_error(logits, expected) < 0.02


def loss(params, network, images):
    logits = network.apply({"params": params}, images)
    labels = jnp.arange(len(images)) % 10
    # These logits are large; the division keeps every probability well below 1.
    log_probabilities = nn.log_softmax(logits / 100)
    return -jnp.take_along_axis(log_probabilities, labels[:, None], axis=1).mean()


gradient = jax.jit(jax.grad(loss), static_argnums=1)


@pytest.mark.slow
@networks
def test_gradient(network):
    params, images = trained(network), pictures(network, 4)
    result = gradient(params, network(ops="fast"), images)
    expected = gradient(params, network(ops="plain"), images)
    errors = jax.tree.map(relative_error, result, expected)
    assert max(jax.tree.leaves(errors)) < 1e-5, errors  # measured: 6e-7


@networks
def test_no_convolution_on_the_cpu(network):
    # Inside a loop, XLA's CPU code for a convolution takes 30 times as long.
    params, images = trained(network), pictures(network, 2)
    traced = gradient.trace(params, network(), images)
    lowered = traced.lower(lowering_platforms=("cpu",)).as_text()
    assert "stablehlo.dot_general" in lowered
    assert "stablehlo.convolution" not in lowered


# The last window is larger than the image.
@pytest.mark.parametrize("size", [(5, 3), (2, 4), (6, 7)])
def test_locally_connected_equals_flax(size):
    features = 7
    ours = LocallyConnected(features, size, normal(1.0))
    oracle = nn.ConvLocal(features, size, bias_init=normal(1.0))

    def batch_first(params, x):
        return jnp.moveaxis(ours.apply(params, jnp.moveaxis(x, 0, -1)), -1, 0)

    @jax.jit
    def values_and_gradients(params, x):
        found = []
        for apply in (batch_first, oracle.apply):
            y, pullback = jax.vjp(apply, params, x)
            found.append((y, pullback(jnp.cos(y))))
        return found

    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 2))
    params = jax.jit(oracle.init)(jax.random.key(1), x)
    values, expected = values_and_gradients(params, x)
    errors = jax.tree.map(relative_error, values, expected)
    assert max(jax.tree.leaves(errors)) < 1e-6, errors  # measured: 2e-7


def test_gradient_of_locally_connected_in_bfloat16():
    def loss(dtype, params):
        layer = LocallyConnected(7, (3, 3), normal(1.0), dtype)
        return jnp.sin(layer.apply(params, x)).sum()

    x = jax.random.normal(jax.random.key(0), (3, 4, 2, 5))
    layer = LocallyConnected(7, (3, 3), normal(1.0))
    params = jax.jit(layer.init)(jax.random.key(1), x)
    gradient = jax.jit(jax.grad(loss, argnums=1), static_argnums=0)
    result, expected = (gradient(dtype, params) for dtype in (jnp.bfloat16, "float32"))
    errors = jax.tree.map(relative_error, result, expected)
    # Three values are rounded to 8 bits (measured: 0.010).
    assert max(jax.tree.leaves(errors)) < 0.02, errors
    assert {leaf.dtype for leaf in jax.tree.leaves(result)} == {jnp.dtype("float32")}


@networks
def test_other_sizes_and_classes(network):
    model = network(num_classes=3)
    for shape in (
        (2, network.smallest_image, network.smallest_image, 3),
        (1, 9, 14, 3),
    ):
        init = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))
        logits = jax.eval_shape(model.apply, init, jnp.zeros(shape))
        assert logits.shape == (shape[0], 3)


@networks
def test_activations(network):
    params, images = trained(network), pictures(network, 2)
    apply = functools.partial(network().apply, mutable="intermediates")
    _, state = jax.eval_shape(apply, {"params": params}, images)
    activations = state["intermediates"]["activations"]
    assert [layer for values in activations for layer in values] == list(
        LAYERS[network]
    )
    assert all(len(*values.values()) == 2 for values in activations)
