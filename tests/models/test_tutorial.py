"""Tests the parameters of the tutorial's network and their initialization.

test_golden.py compares its outputs with TensorFlow's.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from cifar_jax import models
from cifar_jax.errors import UserError
from cifar_jax.optimization.losses import CrossEntropy
from cifar_jax.optimization.weight_decay import WeightDecay

# Layer: kernel shape, sigma of the initialization, initial bias.
LAYERS = {
    "conv1": ((5, 5, 3, 64), 0.05, 0.0),
    "conv2": ((5, 5, 64, 64), 0.05, 0.1),
    "local3": ((2304, 384), 0.04, 0.1),
    "local4": ((384, 192), 0.04, 0.1),
    "softmax_linear": ((192, 10), 1 / 192, 0.0),
}
IMAGES = jnp.zeros((2, 24, 24, 3))


@pytest.fixture(scope="module")
def params():
    init = jax.jit(models.create("tutorial").init)
    return init(jax.random.key(0), IMAGES)["params"]


def abstract_params(**options):
    """Returns the shapes and types of the parameters, without values."""
    init = models.create("tutorial", **options).init
    return jax.eval_shape(init, jax.random.key(0), IMAGES)["params"]


def test_parameters(params):
    assert jax.tree.map(jnp.shape, params) == {
        layer: {"kernel": shape, "bias": shape[-1:]}
        for layer, (shape, _, _) in LAYERS.items()
    }
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 1_068_298


@pytest.mark.parametrize("layer", LAYERS)
def test_initializers(params, layer):
    _, sigma, bias = LAYERS[layer]
    np.testing.assert_array_equal(params[layer]["bias"], np.float32(bias))

    kernel = np.asarray(params[layer]["kernel"], float).ravel() / sigma
    assert 1.95 < np.abs(kernel).max() <= 2 + 1e-6
    # Values beyond two sigma are redrawn without rescaling, so the standard deviation
    # is below sigma.
    truncated = stats.truncnorm(-2, 2)
    assert truncated.std() == pytest.approx(0.8796, abs=1e-4)
    standard_error = 1 / np.sqrt(kernel.size)
    assert abs(kernel.mean()) < 4 * standard_error
    assert abs(kernel.std() - truncated.std()) < 4 * standard_error
    assert stats.kstest(kernel, truncated.cdf).pvalue > 1e-3


def test_layers_start_differently(params):
    # Kernels of the same shape drawn from the same key would be equal.
    starts = [params[layer]["kernel"].ravel()[0] / LAYERS[layer][1] for layer in LAYERS]
    assert len({round(float(start), 3) for start in starts}) == len(LAYERS)


def test_the_decayed_layers_exist(params):
    assert models.create("tutorial").weight_decays == {"local3": 1, "local4": 1}
    assert set(params) >= {"local3", "local4"}


def test_training_starts_at_the_tutorials_loss(params):
    model = models.create("tutorial")
    images = jax.random.normal(jax.random.key(0), (8, 24, 24, 3))
    logits = jax.jit(model.apply)({"params": params}, images)
    cross_entropy = CrossEntropy()(logits, jnp.arange(8), {}).mean()
    terms = WeightDecay(0.004, True, model.weight_decays).penalties(params)
    # Cross-entropy: ln 10. Weight losses: 0.004 / 2 times the sum of squared weights.
    assert float(cross_entropy) == pytest.approx(np.log(10), abs=0.05)
    assert float(terms["local3/weight_loss"]) == pytest.approx(2.19, abs=0.01)
    assert float(terms["local4/weight_loss"]) == pytest.approx(0.18, abs=0.01)
    total = float(cross_entropy + sum(terms.values()))
    assert total == pytest.approx(4.68, abs=0.05)


def test_bfloat16_keeps_float32_parameters():
    params = abstract_params(dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_number_of_classes():
    params = abstract_params(num_classes=100)
    assert params["softmax_linear"]["kernel"].shape == (192, 100)


def test_unknown_model():
    with pytest.raises(UserError, match=r"--model=resnet: resnet is unknown.*tutorial"):
        models.create("resnet")
