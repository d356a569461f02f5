"""Tests residual and dense networks for CIFAR; see also test_golden_networks.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_jax import UserError, models

# With 10 classes. The papers round: 36.5M for WRN-28-10; 0.27M, 0.46M, 0.66M, 0.85M and
# 1.7M for ResNets; 0.8M for DenseNet-BC. From densenet121 on, they are those of
# kuangliu/pytorch-cifar.
PARAMETERS = {
    "wrn": 36_479_194,
    "wrn(depth=16, width=4)": 2_748_890,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "densenet": 769_162,
    "densenet121": 6_956_298,
    "preact_resnet18": 11_171_146,
    "senet18": 11_260_354,
    "resnet34": 21_282_122,
    "cifar_resnet50": 23_520_842,
    "cifar_resnet101": 42_512_970,
    "resnext29(cardinality=2, width=64)": 9_128_778,
    "resnext29(cardinality=4, width=64)": 27_104_586,
    "resnext29(cardinality=32, width=4)": 4_774_218,
    "regnet_x_200mf": 2_321_946,
    "regnet_y_400mf": 5_714_362,
    "dpn26": 11_574_842,
    "dpn92": 34_236_634,
}
# Small ones of each kind.
SMALL = (
    "wrn(depth=10, width=1)",
    "preact_resnet18(width=8, depths=(1, 1))",
    "senet18(width=8, depths=(1, 1), reduction=4)",
    "resnet20(width=8, depths=(1, 1, 1))",
    "cifar_resnet50(width=8, depths=(1, 1))",
    "densenet(depth=10, growth=4)",
    "densenet121(depths=(1, 1, 1, 1), growth=4)",
    "resnext29(cardinality=4, width=2, depths=(1, 1))",
    "regnet_x_200mf(widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), group_width=4)",
    "regnet_y_400mf(widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), group_width=4)",
    "dpn26(depths=(1, 1, 1, 1))",
)


def shapes(model: str, size: int = 32, **options):
    network = models.create(model, **options)
    images = jnp.zeros((2, size, size, 3))
    return jax.eval_shape(network.init_with_output, jax.random.key(0), images)


@pytest.mark.parametrize("model", PARAMETERS)
def test_parameters(model):
    _, variables = shapes(model, num_classes=10)
    found = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert found == PARAMETERS[model]


@pytest.mark.parametrize("model", SMALL)
def test_sizes_classes_and_dtype(model):
    for size in (models.create(model).smallest_image, 33):
        logits, variables = shapes(model, size, num_classes=7, dtype=jnp.bfloat16)
        assert (logits.shape, logits.dtype) == ((2, 7), jnp.float32)
        leaves = jax.tree.leaves((variables["params"], variables["batch_stats"]))
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


@pytest.mark.parametrize("model", SMALL)
def test_every_kernel_is_of_a_tapped_layer(model):
    network = models.create(model)
    _, variables = jax.eval_shape(
        lambda: network.init_with_output(
            jax.random.key(0), jnp.zeros((2, 32, 32, 3)), mutable=True
        )
    )
    taps = variables["intermediates"]["activations"]
    tapped = [layer for tap in taps for layer in tap]
    params = variables["params"]
    assert sorted(tapped) == sorted(name for name in params if "kernel" in params[name])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("wrn(depth=27)", "depth=27 must be 6n [+] 4, such as 16, 22, 28 or 40"),
        ("wrn(depth=4)", "depth=4 must be at least 10"),
        ("wrn(width=0)", "width=0 must be at least 1"),
        ("wrn(dropout=1)", "dropout=1.0 must be below 1"),
        ("preact_resnet18(width=0)", "width=0 must be at least 1"),
        ("preact_resnet18(depths=(1, 201))", r"depths=\(1, 201\) must be at most 200"),
        ("senet18(width=8)", "reduction=16 must be at most width=8"),
        ("senet18(reduction=0)", "reduction=0 must be at least 1"),
        ("densenet(depth=121)", "depth=121 must be 6n [+] 4, such as 40, 100, 190"),
        ("densenet(growth=0)", "growth=0 must be at least 1"),
        ("densenet121(depths=(6, 12))", r"depths=\(6, 12\) must be a list of 4"),
        ("densenet121(growth=0)", "growth=0 must be at least 1"),
        ("resnext29(cardinality=0)", "cardinality=0 must be at least 1"),
        ("resnext29(width=0)", "width=0 must be at least 1"),
        ("regnet_x_200mf(group_width=16)", "must be multiples of group_width=16"),
        ("regnet_x_200mf(group_width=0)", "group_width=0 must be at least 1"),
        ("regnet_y_400mf(widths=(2, 16, 16, 16))", "must be at least 4"),
        ("dpn26(depths=(0, 1, 1, 1))", "must be at least 1"),
    ],
)
def test_options_that_cannot_be_used_are_refused(model, message):
    with pytest.raises(UserError, match=message) as caught:
        models.create(model)
    assert "\n" not in str(caught.value)


def test_blocks_of_wide_resnets_drop_inputs_of_their_second_convolution():
    network = models.create("wrn(depth=10, width=1, dropout=0.5)", 3)
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    variables = jax.eval_shape(network.init, jax.random.key(1), images)
    variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), variables)

    @jax.jit
    def taps(key):
        _, state = network.apply(
            variables, images, train=True, mutable=True, rngs={"dropout": key}
        )
        found = models.collect_taps(state["intermediates"])
        return {layer: values for tap in found for layer, values in tap.items()}

    first, second = taps(jax.random.key(0)), taps(jax.random.key(1))
    same = [layer for layer in first if np.array_equal(first[layer], second[layer])]
    # The first block has a shortcut of equal shape, hence no convolution there.
    assert same == ["conv1_conv", "conv2_block1_1_conv"]
    jax.eval_shape(network.apply, variables, images)  # no random stream is needed


@pytest.mark.parametrize(
    ("model", "layer", "sigma"),
    [
        # Normal with variance 2 over the outputs times the window, as in Torch's code.
        ("wrn(depth=10, width=8)", "conv4_block1_1_conv", np.sqrt(2 / (9 * 512))),
        ("densenet", "block3_layer16_1_conv", np.sqrt(2 / 48)),
        # Uniform up to 1 over the root of the inputs.
        ("preact_resnet18", "predictions", np.sqrt(1 / 3 / 512)),
        # Normal with variance 2 over the inputs.
        ("resnet56(width=64)", "conv4_block1_1_conv", np.sqrt(2 / (9 * 128))),
        ("resnext29", "conv4_block1_2_conv", np.sqrt(2 / (9 * 16))),
    ],
)
def test_initializers(model, layer, sigma):
    network = models.create(model)

    # Under jit, XLA omits all other layers.
    @jax.jit
    def initial(key):
        return network.init(key, jnp.zeros((1, 8, 8, 3)))["params"][layer]["kernel"]

    kernel = np.asarray(initial(jax.random.key(0)))
    assert kernel.std() == pytest.approx(sigma, rel=0.03)
    assert abs(kernel.mean()) < 0.03 * sigma
