"""Tests the networks after kuangliu/pytorch-cifar, each in a file of its own.

`test_golden_networks.py` compares them with the same ones in PyTorch.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy import stats

from cifar_jax import Config, UserError, models
from cifar_jax.models.shufflenet import shuffle_channels

PARAMETERS = {
    # Counted in pytorch-cifar.
    "lenet": 62_006,
    "mobilenet_v2": 2_296_922,
    # Less a 1x1 convolution from 32 to 32 channels that is never applied, and its norm.
    "efficientnet_b0": 3_599_686 - 32 * 32 - 2 * 32,
    # Less the biases that BatchNorm cancels.
    "googlenet": 6_166_250 - 7_904,
    "dla": 16_291_386,
    "simple_dla": 15_142_970,
    "shufflenet": 887_582,
    "shufflenet(groups=3)": 862_768,
    "pnasnet_a": 130_646,
    "pnasnet_b": 451_626,
    # torchvision's models, with a dense layer for 10 classes instead of 1,000.
    "shufflenet_v2(width=0.5)": 1_366_792 - 990 * 1025,
    "shufflenet_v2": 2_278_604 - 990 * 1025,
    "shufflenet_v2(width=1.5)": 3_503_624 - 990 * 1025,
    "shufflenet_v2(width=2)": 7_393_996 - 990 * 2049,
}
# As narrow or shallow as each network can be, for tests that compute.
SMALL = (
    "lenet",
    "mobilenet_v2(width=0.1)",
    "efficientnet_b0(width=0.1, depth=0.3)",
    "googlenet(width=4)",
    "dla(width=1)",
    "simple_dla(width=1)",
    "shufflenet(depths=(1, 2, 1))",
    "shufflenet_v2(width=0.5, depths=(1, 2, 1))",
    "pnasnet_a(width=4, depth=1)",
    "pnasnet_b(width=4, depth=1)",
)


@pytest.mark.parametrize("model", PARAMETERS)
def test_there_are_as_many_parameters_as_published(model):
    network, images = models.create(model, 10), jnp.zeros((1, 32, 32, 3))
    params = jax.eval_shape(network.init, jax.random.key(0), images)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == PARAMETERS[model]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("mobilenet_v2(width=0)", "width=0.0 must be above 0"),
        ("efficientnet_b0(width=-1)", "width=-1.0 must be above 0"),
        ("efficientnet_b0(depth=51)", "depth=51.0 must be at most 50"),
        ("efficientnet_b0(dropout=1)", "dropout=1.0 must be below 1"),
        ("efficientnet_b0(drop_connect=1)", "drop_connect=1.0 must be below 1"),
        ("googlenet(width=3)", "width=3 must be at least 4"),
        ("dla(width=0)", "width=0 must be at least 1"),
        ("shufflenet(groups=5)", "groups=5 must be one of 1, 2, 3, 4, 8"),
        ("shufflenet(depths=(4, 0, 4))", r"depths=\(4, 0, 4\) must be at least 1"),
        ("shufflenet_v2(width=3)", "width=3.0 must be one of 0.5, 1.0, 1.5, 2.0"),
        ("shufflenet_v2(depths=(4, 8))", "must be a list of 3 integers"),
        ("pnasnet_a(width=0)", "width=0 must be at least 1"),
        ("pnasnet_b(depth=201)", "depth=201 must be at most 200"),
    ],
)
def test_options_that_cannot_be_used_are_refused(model, message):
    with pytest.raises(UserError, match=message) as caught:
        models.create(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", SMALL)
def test_any_size_classes_and_dtype(model):
    network = models.create(model, num_classes=7, dtype=jnp.bfloat16)
    modes = []

    def record(call, args, options, context):
        result = call(*args, **options)
        if isinstance(context.module, nn.BatchNorm):
            modes.append(context.module.use_running_average)
        if isinstance(context.module, nn.Conv | nn.Dense | nn.BatchNorm):
            assert result.dtype == jnp.bfloat16, context.module.path
        return result

    size = network.smallest_image
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    for more, train in ((0, True), (17, False)):
        images = jnp.zeros((3, size, size + more, 3))
        run = functools.partial(network.init_with_output, train=train, mutable=True)
        modes.clear()
        with nn.intercept_methods(record):
            logits, variables = jax.eval_shape(run, rngs, images)
        assert (logits.shape, logits.dtype) == ((3, 7), jnp.float32)
        assert modes == [not train] * len(variables.get("batch_stats", {}))
        tapped = set().union(*variables.pop("intermediates")["activations"])
        params = variables["params"]
        assert {name for name in params if "kernel" in params[name]} <= tapped
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(variables)}
        assert dtypes == {jnp.dtype("float32")}


def test_smaller_images_are_too_small_for_lenet():
    with pytest.raises(UserError, match="at least 16, which --model=lenet needs"):
        Config(model="lenet", image_size=15)


def test_the_kernels_of_lenet_are_uniform():
    params = jax.jit(models.create("lenet", 10).init)(
        jax.random.key(0), jnp.zeros((1, 32, 32, 3))
    )["params"]
    for layer, inputs in (("conv2", 5 * 5 * 6), ("fc1", 400), ("predictions", 84)):
        kernel = np.asarray(params[layer]["kernel"], float) * inputs**0.5
        uniform = stats.uniform(-1, 2).cdf
        assert stats.kstest(kernel.ravel(), uniform).pvalue > 1e-3
        assert not params[layer]["bias"].any()


def test_the_kernels_of_normalized_networks_are_normal():
    params = jax.jit(models.create("shufflenet(depths=(1, 2, 1))", 10).init)(
        jax.random.key(0), jnp.zeros((1, 32, 32, 3))
    )["params"]
    for layer, inputs in (
        ("conv1", 3),
        ("stage2_block2_conv1", 400 // 2),
        ("stage2_block2_conv2", 3 * 3),
        ("predictions", 2 / 0.01**2),
    ):
        kernel = np.asarray(params[layer]["kernel"], float)
        assert kernel.std() == pytest.approx((2 / inputs) ** 0.5, rel=0.1), layer


def test_shuffled_channels_come_from_each_group_in_turn():
    x = jnp.arange(6.0).reshape(1, 1, 1, 6)
    assert shuffle_channels(x, 2).ravel().tolist() == [0, 3, 1, 4, 2, 5]
    assert shuffle_channels(x, 3).ravel().tolist() == [0, 2, 4, 1, 3, 5]
    np.testing.assert_array_equal(shuffle_channels(x, 1), x)


@pytest.mark.slow
def test_drop_connect_leaves_the_shortcut_or_the_block_scaled_up():
    images = jax.random.normal(jax.random.key(0), (64, 16, 16, 3))

    @functools.partial(jax.jit, static_argnums=0)
    def tapped(drop_connect):
        options = f"width=0.1, depth=0.3, drop_connect={drop_connect}"
        network = models.create(f"efficientnet_b0({options})", 10)
        rngs = {"params": jax.random.key(1), "dropout": jax.random.key(2)}
        _, variables = network.init_with_output(rngs, images, train=True, mutable=True)
        taps = models.collect_taps(variables["intermediates"])
        found = {name: values for tap in taps for name, values in tap.items()}
        # Only one block has a shortcut, so nothing is random before it.
        return found["stage6_block1_project"], found["stage6_block2"]

    shortcut, whole = map(np.asarray, tapped(0.0))
    before, dropped = map(np.asarray, tapped(0.9))
    np.testing.assert_array_equal(before, shortcut)
    is_kept = (dropped != shortcut).any(axis=(1, 2, 3))
    # It is the seventh of eight blocks.
    kept = 1 - 0.9 * 6 / 8
    assert is_kept.mean() == pytest.approx(kept, abs=0.2)
    expected = shortcut + (whole - shortcut) / kept
    np.testing.assert_allclose(dropped[is_kept], expected[is_kept], atol=1e-5)


@pytest.mark.slow
def test_dropout_is_for_training():
    network = models.create("efficientnet_b0(width=0.1, depth=0.3)", 3)
    images = jax.random.normal(jax.random.key(0), (8, 16, 16, 3))
    variables = jax.jit(network.init)(jax.random.key(1), images)

    @jax.jit
    def trained(key):
        options = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": key}}
        return network.apply(variables, images, **options)[0]

    first, second = trained(jax.random.key(0)), trained(jax.random.key(1))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(trained(jax.random.key(0)), first)
    jax.jit(network.apply)(variables, images)  # no random stream is needed
