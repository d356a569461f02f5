"""Tests the order of layers, and their learning rates."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from cifar_jax import (
    Batch,
    Block,
    Config,
    Network,
    build_program,
    fit,
    init_state,
    models,
    train_step,
)
from cifar_jax.training.layer_rates import list_layers

TUTORIAL = [["conv1"], ["conv2"], ["local3"], ["local4"], ["softmax_linear"]]


def test_layers_of_the_tutorial():
    assert list_layers(models.create("tutorial"), 24) == TUTORIAL


def test_layers_of_residual_networks_are_in_order_of_use():
    layers = list_layers(models.create("resnet18(width=4)"), 32)
    assert layers[0] == ["conv1_conv", "conv1_bn"]
    assert layers[1] == ["conv2_block1_1_conv", "conv2_block1_1_bn"]
    assert layers[5][0] == "conv3_block1_0_conv"  # the shortcut of the second stage
    assert layers[-1] == ["predictions"]
    assert len(layers) == 21


def test_layers_of_airbench():
    layers = list_layers(models.create("airbench94"), 32)
    assert layers == [
        ["whiten"],
        *(
            [f"group{group}_conv{number}", f"group{group}_norm{number}"]
            for group in (1, 2, 3)
            for number in (1, 2)
        ),
        ["predictions"],
    ]


def test_layers_of_vgg():
    layers = list_layers(models.create("vgg16_bn"), 32)
    assert len(layers) == 14
    assert layers[-1] == ["predictions"]


class Transformer(Network):
    """Blocks with many kernels each, and params that belong to no module."""

    @nn.compact
    def __call__(self, images, train=False):
        x = images.reshape(len(images), -1)
        scale = self.param("a_scale", nn.initializers.ones, (x.shape[-1],))
        x = nn.Dense(8, name="z_embed")(nn.LayerNorm(name="norm0")(x * scale))
        for number in (10, 9):
            x = Mixer(name=f"block{number}")(x)
        x = nn.LayerNorm(name="norm1")(x)
        return nn.Dense(self.num_classes, name="a_head")(x)


class Mixer(Block):
    """Two dense layers."""

    @nn.compact
    def __call__(self, x):
        return x + nn.Dense(8, name="dense2")(nn.relu(nn.Dense(8, name="dense1")(x)))


def test_a_block_is_one_layer_whatever_its_name():
    assert list_layers(Transformer(), 4) == [
        ["a_scale", "norm0", "z_embed"],
        ["block10"],
        ["block9", "norm1"],
        ["a_head"],
    ]


class Bias(Network):
    """A network without kernels."""

    @nn.compact
    def __call__(self, images, train=False):
        bias = self.param("bias", nn.initializers.zeros, (self.num_classes,))
        return bias[None].repeat(len(images), 0)


def test_a_network_without_kernels_is_one_layer():
    assert list_layers(Bias(), 4) == [["bias"]]


def step(dataset, **changes):
    """Returns how far one step of SGD moves each parameter, relative to the head's."""
    config = Config(
        **{"model": "batch_norm", "batch_size": 8, "weight_decay": 0.1} | changes
    )
    program = build_program(config, num_classes=3)
    state = init_state(program, jax.random.key(0), dataset.train.images)
    batch = Batch.from_arrays(dataset.train.images[:8], dataset.train.labels[:8])
    after, _ = jax.jit(train_step, static_argnums=0)(program, state, batch)
    return jax.tree.map(lambda a, b: np.asarray(a - b), after.params, state.params)


@pytest.mark.parametrize(
    "optimizer", ["sgd", "adamw", "clip(lookahead(sgd(0.9)))", "optax('adabelief')"]
)
def test_updates_are_those_of_the_lower_rates(dataset, optimizer):
    usual = step(dataset, optimizer=optimizer)
    lower = step(dataset, optimizer=optimizer, layer_decay=0.5)
    for part, factor in {"conv": 0.5, "norm": 0.5, "head": 1.0}.items():
        jax.tree.map(
            lambda a, b, f=factor: np.testing.assert_allclose(
                a, f * b, rtol=1e-3, atol=1e-7
            ),
            lower[part],
            usual[part],
        )


def test_groups_are_multiplied_too(dataset):
    groups = "group('.*/kernel', learning_rate=3), group('norm/scale', frozen=True)"
    usual = step(dataset)
    both = step(dataset, layer_decay=0.5, param_groups=groups)
    for part, kind, factor in (
        ("conv", "kernel", 1.5),
        ("head", "kernel", 3.0),
        ("head", "bias", 1.0),
        ("norm", "bias", 0.5),
        ("norm", "scale", 0.0),
    ):
        np.testing.assert_allclose(
            both[part][kind], factor * usual[part][kind], rtol=1e-3, atol=1e-6
        )


def test_the_log_lists_the_factors(dataset):
    lines = []
    config = Config(
        model="batch_norm",
        batch_size=8,
        max_steps=1,
        train_dir=None,
        layer_decay=0.75,
    )
    fit(config, dataset, lines.append)
    assert (
        "--layer_decay=0.75 multiplies the rates by: conv 0.75, norm 0.75, head 1"
        in lines
    )


def test_it_is_off_by_default(dataset):
    config = Config(model="batch_norm", batch_size=8, max_steps=1, train_dir=None)
    program = build_program(config, num_classes=3)
    assert not program.layer_rates
    lines = []
    fit(config, dataset, lines.append)
    assert not any("layer_decay" in line for line in lines)
