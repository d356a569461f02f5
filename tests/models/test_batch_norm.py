"""Tests BatchNorm in training: nested or not, made by a Block or by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import make_dataset

from cifar_jax import (
    Batch,
    Block,
    Config,
    Network,
    build_program,
    init_state,
    models,
    train_step,
)
from cifar_jax.models import batch_norm

DATASET = make_dataset()
BATCH = Batch.from_arrays(DATASET.train.images[:16], DATASET.train.labels[:16])
NORMS = {"norm": "norm", "part": "part/norm", "inner": "part/inner/own"}


class Own(nn.Module):
    """BatchNorm that knows nothing of this package, called in another way."""

    @nn.compact
    def __call__(self, x, train):
        return nn.BatchNorm(momentum=0.9, name="own")(x, not train)


class Part(Block):
    width: int

    @nn.compact
    def __call__(self, x, train):
        x = self.convolution(self.width, (3, 3), "conv")(x)
        x = self.tap("conv", self.batch_norm("norm", train)(x))
        return Own(name="inner")(x, train)


class Nested(Network):
    @nn.compact
    def __call__(self, images, train=False):
        x = self.batch_norm("norm", train)(images)
        x = self.tap("norm", x)
        x = Part(4, dtype=self.dtype, ops=self.ops, name="part")(x, train)
        x = self.tap("pool", x.mean(axis=(1, 2)))
        return self.predictions(x, nn.initializers.normal(0.1))


@pytest.fixture(autouse=True)
def nested(monkeypatch):
    monkeypatch.setitem(models.MODELS, "nested", Nested)


@functools.cache
def after(param_groups: str = "", **settings):
    """Returns the states before and after two steps."""
    config = Config(
        model="nested", distortions="crop", param_groups=param_groups, **settings
    )
    program = build_program(config, 3)
    state = before = init_state(program, jax.random.key(0), DATASET.train.images)
    step = jax.jit(functools.partial(train_step, program))
    for _ in range(2):
        state, _ = step(state, BATCH)
    return before, state


def at(tree, path: str):
    for key in path.split("/"):
        tree = tree[key]
    return tree


@pytest.mark.parametrize("names", [["norm"], ["part", "inner"]])
def test_one_that_is_frozen_keeps_its_averages_and_its_parameters(names):
    frozen = [NORMS[name] for name in names]
    groups = (f"group('{path}/.*', frozen=True)" for path in frozen)
    before, state = after(", ".join(groups))
    for own in NORMS.values():
        same = own in frozen
        for trees in ("batch_stats", "params"):
            first = jax.tree.leaves(at(getattr(before, trees), own))
            then = jax.tree.leaves(at(getattr(state, trees), own))
            for a, b in zip(first, then, strict=True):
                assert np.array_equal(a, b) == same, (trees, own)


def test_one_that_is_frozen_normalizes_by_its_averages():
    frozen = ["part/inner/own/.*"]
    network = Nested(num_classes=3)
    images = jax.random.normal(jax.random.key(1), (16, 8, 8, 3))
    variables = jax.jit(network.init)(jax.random.key(0), images)

    def apply(**options):
        return jax.jit(functools.partial(network.apply, **options))(variables, images)

    with batch_norm.in_training([".*"], None):
        logits, _ = apply(train=True, mutable=["batch_stats"])
    np.testing.assert_array_equal(logits, apply())
    with batch_norm.in_training(frozen, None):
        logits, changed = apply(train=True, mutable=["batch_stats"])
    assert not np.allclose(logits, apply())
    own = changed["batch_stats"]["part"]["inner"]["own"]
    np.testing.assert_array_equal(own["mean"], 0)
    # Nothing of it is left behind.
    _, changed = apply(train=True, mutable=["batch_stats"])
    assert np.abs(changed["batch_stats"]["part"]["inner"]["own"]["mean"]).max() > 0


def test_one_with_a_parameter_that_is_trained_is_not_frozen():
    before, state = after("group('part/norm/bias', frozen=True)")
    mean = "part/norm/mean"
    assert not np.array_equal(at(before.batch_stats, mean), at(state.batch_stats, mean))


@pytest.mark.parametrize(
    ("options", "patterns", "is_frozen"),
    [
        ({}, ["norm/scale", "norm/bias"], True),
        ({}, ["norm/scale"], False),
        ({"use_scale": False}, ["norm/bias"], True),
        ({"use_bias": False}, ["norm/scale"], True),
        ({"use_bias": False}, ["norm/bias"], False),
        ({"use_bias": False, "use_scale": False}, ["norm/.*"], True),
        ({"use_bias": False, "use_scale": False}, [".*/bias"], False),
    ],
)
def test_the_parameters_that_there_are_decide(options, patterns, is_frozen):
    class One(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.BatchNorm(use_running_average=False, name="norm", **options)(x)

    x = jnp.arange(6.0).reshape(3, 2)
    variables = One().init(jax.random.key(0), x)
    with batch_norm.in_training(patterns, None):
        _, changed = One().apply(variables, x, mutable=["batch_stats"])
    mean = changed["batch_stats"]["norm"]["mean"]
    assert np.array_equal(mean, [0, 0]) == is_frozen


def test_statistics_are_those_of_all_devices():
    network = Nested(num_classes=3)
    images = jax.random.normal(jax.random.key(1), (4, 2, 8, 8, 3)) * jnp.arange(
        1.0, 5
    ).reshape(4, 1, 1, 1, 1)
    variables = jax.jit(network.init)(jax.random.key(0), images[0])

    def step(images, axis_name):
        with batch_norm.in_training([], axis_name):
            return network.apply(variables, images, train=True, mutable=["batch_stats"])

    # vmap has axes with names as pmap and shard_map have.
    shares = jax.vmap(functools.partial(step, axis_name="batch"), axis_name="batch")
    logits, stats = jax.jit(shares)(images)
    whole_step = jax.jit(functools.partial(step, axis_name=None))
    expected, whole = whole_step(images.reshape(8, 8, 8, 3))
    np.testing.assert_allclose(logits.reshape(8, 3), expected, atol=1e-5)
    for path in NORMS.values():
        for name in ("mean", "var"):
            found = at(stats["batch_stats"], f"{path}/{name}")
            for one in found:
                np.testing.assert_allclose(
                    one, at(whole["batch_stats"], f"{path}/{name}"), atol=1e-5
                )


def test_layers_of_blocks_are_recorded_in_order_by_their_full_names():
    images = jnp.zeros((2, 8, 8, 3))
    variables = jax.jit(Nested().init)(jax.random.key(0), images)
    _, sown = Nested().apply(variables, images, mutable=["intermediates"])
    found = models.collect_taps(sown["intermediates"])
    assert [name for layer in found for name in layer] == [
        *("norm", "part/conv", "pool", "predictions")
    ]
    assert found[1]["part/conv"].shape == (2, 8, 8, 4)
    assert models.collect_taps({}) == ()


def test_layers_within_a_transformation_are_recorded_too():
    class Rematerialized(Network):
        @nn.compact
        def __call__(self, images, train=False):
            part = nn.remat(Part, static_argnums=2)
            x = part(4, dtype=self.dtype, ops=self.ops, name="part")(images, train)
            return self.predictions(x.mean((1, 2)), nn.initializers.normal(0.1))

    images = jnp.zeros((2, 8, 8, 3))
    variables = jax.jit(Rematerialized().init)(jax.random.key(0), images)
    _, sown = Rematerialized().apply(variables, images, mutable=["intermediates"])
    found = models.collect_taps(sown["intermediates"])
    assert {name for layer in found for name in layer} == {"part/conv", "predictions"}
    with batch_norm.in_training(["part/.*"], None):
        _, changed = Rematerialized().apply(
            variables, images + 1, train=True, mutable=["batch_stats"]
        )
    own = changed["batch_stats"]["part"]["inner"]["own"]
    np.testing.assert_array_equal(own["mean"], 0)
