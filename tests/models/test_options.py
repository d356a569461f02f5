"""Tests the options of networks, `describe`, and `check`."""

import dataclasses
import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cifar_jax import Config, Network, UserError, models
from cifar_jax.registry import signatures


def count(model: str, size: int, collections=("params",), num_classes=10) -> int:
    network = models.create(model, num_classes)
    images = jnp.zeros((1, size, size, 3))
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    trees = [variables[name] for name in collections]
    return sum(leaf.size for leaf in jax.tree.leaves(trees))


@pytest.mark.parametrize(
    ("model", "size", "expected"),
    [
        # By hand, layer by layer.
        (
            "tutorial(width=32, hidden=(192, 96))",
            24,
            2_432 + 25_632 + 221_376 + 18_528 + 970,
        ),
        # ResNet-34 and VGG-11 of kuangliu/pytorch-cifar, the latter without the biases
        # that BatchNorm cancels.
        ("resnet18(depths=(3, 4, 6, 3))", 32, 21_282_122),
        ("vgg16_bn(depths=[1, 1, 2, 2, 2])", 32, 9_231_114 - 2_752),
        # ResNet-20 (He et al., 2016: 0.27M), whose two shortcuts are convolutions here.
        ("resnet18(16, depths=(3, 3, 3))", 32, 269_722 + 2_752),
        # By other names.
        ("airbench94(widths=(32, 128, 128))", 32, 497_528),
        ("airbench94_sgd(widths=(128, 384, 512), depth=3)", 32, 9_915_704),
        ("vgg19(depths=(2, 2, 3, 3, 3), dropout=0.5)", 32, count("vgg16", 32)),
    ],
)
def test_options_change_the_number_of_parameters(model, size, expected):
    assert count(model, size) == expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        # keras.applications.ResNet101 and MobileNet(alpha=0.5), summary().
        ("resnet50(depths=(3, 4, 23, 3))", 44_707_176),
        ("mobilenet(width=16)", 1_342_536),
    ],
)
def test_options_give_other_networks_of_keras(model, expected):
    assert count(model, 224, ("params", "batch_stats"), 1000) == expected


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("resnet18(width=0)", "width=0 must be at least 1"),
        ("resnet18(width=32.0)", "width=32.0 must be an integer"),
        ("resnet18(depths=(2, 0))", r"depths=\(2, 0\) must be at least 1"),
        ("resnet18(depths=2)", "depths=2 must be a list of integers"),
        ("vgg16(depths=(1, 1))", r"depths=\(1, 1\) must be a list of 5 integers"),
        ("vgg16(dropout=1)", "dropout=1.0 must be below 1"),
        ("airbench94(widths=(1, 2, 'x'))", "must be a list of 3 integers"),
        ("cuda_convnet_18pct(lrn_radius=-1)", "lrn_radius"),
        ("airbench94(muon=1)", "muon=1 must be True or False"),
        (
            "tutorial(num_classes=3)",
            "num_classes is not an option, the program sets it",
        ),
        ("tutorial(ops='plain')", "ops is not an option, the program sets it"),
        ("tutorial(parent=None)", "parent is not an option, the program sets it"),
        ("tutorial(name='x')", "name is not an option, the program sets it"),
        ("tutorial(color=3)", "unexpected keyword argument 'color'"),
        ("tutorial, resnet18", "must be exactly one of .*tutorial, "),
    ],
)
def test_options_that_cannot_be_used_are_refused(model, message):
    for call in (models.create, lambda text: Config(model=text, image_size=32)):
        with pytest.raises(UserError, match=message) as caught:
            call(model)
        assert "\n" not in str(caught.value)


def test_help_lists_options_and_not_what_the_program_sets():
    text = signatures(models.MODELS, models.RESERVED)
    assert "resnet18(width=64, depths=(2, 2, 2, 2))" in text
    assert not any(f"{name}=" in text for name in models.RESERVED)
    # No option whose default could not be written in a flag.
    assert " at 0x" not in text


def test_a_config_has_one_text_for_a_choice():
    config = Config(model=" resnet18( width =32 )", image_size=32)
    assert config.model == "resnet18(width=32)"
    assert dataclasses.replace(config, seed=1).model == config.model


@pytest.mark.slow
def test_dropout_is_for_training():
    network = models.create("vgg16_bn(2, depths=(1, 1, 1, 1, 1), dropout=0.9)", 3)
    images = jax.random.normal(jax.random.key(0), (4, 32, 32, 3))
    variables = jax.jit(network.init)(jax.random.key(1), images)

    @jax.jit
    def trained(key):
        options = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": key}}
        return network.apply(variables, images, **options)[0]

    first, second = trained(jax.random.key(0)), trained(jax.random.key(1))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(trained(jax.random.key(0)), first)
    jax.jit(network.apply)(variables, images)  # no random stream is needed


def activate(x, slope=0.0):
    return jnp.maximum(x, slope * x)


class Described(Network):
    """A network with all kinds of options."""

    widths: tuple[int, ...] = (1, 2)
    name_of: str = "it's"
    part: nn.Module | None = None
    activation: object = activate
    leaky: object = functools.partial(activate, slope=0.1)


def test_a_network_is_described_on_one_line():
    network = Described(part=Described(num_classes=3), dtype=jnp.bfloat16)
    own = "test_options.Described"
    function = "test_options.activate"
    rest = f"activation={function}, leaky={function}(slope=0.1)"
    assert models.describe(network) == (
        f"{own}(dtype=bfloat16, ops='auto', num_classes=10, widths=(1, 2), "
        f"name_of=\"it's\", part={own}(dtype=float32, ops='auto', num_classes=3, "
        f'widths=(1, 2), name_of="it\'s", part=None, {rest}), {rest})'
    )


def test_the_description_is_the_same_in_another_process():
    text = "airbench94(widths=(8, 8, 8))"
    code = "from cifar_jax import models as m; print(m.describe(m.create({!r})))"
    found = subprocess.run(
        [sys.executable, "-c", code.format(text)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == models.describe(models.create(text))
    # As a NumPy dtype or as JAX's, it is the same dtype.
    assert models.describe(models.create(text, dtype=np.dtype("float32"))) == (
        models.describe(models.create(text))
    )


@pytest.mark.wrong_types
def test_only_networks_pass_the_check():
    models.check(models.create("tutorial"))
    for wrong in (nn.Dense(3), Network, "tutorial", None):
        with pytest.raises(UserError, match=r"model must be a cifar_jax\.Network, not"):
            models.check(wrong)
