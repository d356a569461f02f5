"""Tests each optimizer against its formula and on a network with BatchNorm."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from chains import create

from cifar_jax import Batch, Config, build_program, init_state, inspect, train_step
from cifar_jax.optimization import OPTIMIZERS
from cifar_jax.registry import resolve

PARAMS = {"dense": {"kernel": jnp.full((4, 2), 3.0), "bias": jnp.full(2, 7.0)}}
GRADIENTS = jax.tree.map(jnp.ones_like, PARAMS)


def first_update(optimizer, gradients=GRADIENTS, params=PARAMS, **options):
    tx = create(optimizer, **options)
    return tx.update(gradients, tx.init(params), params)[0]


def test_plain_sgd_follows_the_schedule():
    tx = create("sgd", rate=lambda step: 1.0 + step)
    state = tx.init(PARAMS)
    for rate in (1, 2, 3):
        updates, state = tx.update(GRADIENTS, state, PARAMS)
        np.testing.assert_allclose(updates["dense"]["kernel"], -rate, rtol=1e-6)


# A weight of 3 after each step of PyTorch's optimizers with these gradients, a learning
# rate of 0.1 and a weight decay of 0.01, by golden/make_optimizers.py.
SGD_GRADIENTS = (1.0, -0.5, 2.0, 0.25)
GOLDEN = pathlib.Path(__file__).parents[2] / "golden" / "optimizers.json"
PYTORCH = json.loads(GOLDEN.read_text())["weights"]


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [
        ("sgd(0.9)", "sgd"),
        ("sgd(0.9, nesterov=True)", "nesterov"),
        ("adamw", "adamw"),
        ("optax('sgd', momentum=0.9, nesterov=True)", "nesterov"),
        ("optax('adamw')", "adamw"),
        ("optax('radam')", "radam"),
        ("optax('adadelta')", "adadelta"),
    ],
)
def test_weights_match_pytorch(optimizer, name):
    weights = weights_after(optimizer, SGD_GRADIENTS, 0.1, 0.01)
    # SGD within 1e-6.
    rtol = 1e-6 if "sgd" in optimizer else 1e-5
    np.testing.assert_allclose(weights, PYTORCH[name], rtol=rtol)


def weights_after(optimizer, gradients, rate, weight_decay):
    """Returns a weight that starts at 3 after each of these gradients."""
    tx = create(optimizer, rate, weight_decay=weight_decay, max_steps=4)
    params = {"dense": {"kernel": jnp.float32(3.0)}}
    state, weights = tx.init(params), []
    for gradient in gradients:
        updates, state = tx.update(
            {"dense": {"kernel": jnp.float32(gradient)}}, state, params
        )
        params = optax.apply_updates(params, updates)
        weights.append(float(params["dense"]["kernel"]))
    return weights


def test_lion_matches_its_paper():
    # Chen et al. 2023, algorithm 2: the sign of the interpolation plus decay times the
    # weight.
    weight, momentum, expected = 3.0, 0.0, []
    for gradient in SGD_GRADIENTS:
        direction = np.sign(0.9 * momentum + 0.1 * gradient)
        weight -= 0.1 * (direction + 0.01 * weight)
        momentum = 0.99 * momentum + 0.01 * gradient
        expected.append(weight)
    weights = weights_after("lion", SGD_GRADIENTS, 0.1, 0.01)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "in_loss"),
    [
        ("sgd", True),
        ("adamw", False),
        ("lion", False),
        ("muon", False),
        ("lookahead(sgd)", True),
        ("accumulate(clip(adamw), 2)", False),
    ],
)
def test_decoupled_decay_is_not_in_the_loss(optimizer, in_loss):
    assert resolve(optimizer, OPTIMIZERS, "optimizer").decay_in_loss == in_loss


@pytest.mark.parametrize("optimizer", ["adamw", "lion", "muon"])
def test_decoupled_decay_is_a_share_of_the_weight(optimizer):
    with_decay = first_update(optimizer, weight_decay=0.5)["dense"]
    without = first_update(optimizer)["dense"]
    np.testing.assert_allclose(
        with_decay["kernel"], without["kernel"] - 0.1 * 0.5 * 3.0, rtol=1e-5
    )
    np.testing.assert_array_equal(with_decay["bias"], without["bias"])


@pytest.mark.parametrize(
    "optimizer",
    [
        "sgd(momentum=0.9)",
        pytest.param("lookahead(adamw, period=2)", marks=pytest.mark.slow),
    ],
)
def test_batch_norm_statistics_follow_the_batches(optimizer, dataset):
    config = Config(model="batch_norm", optimizer=optimizer, learning_rate=0.01)
    program = build_program(config, num_classes=3)
    state = init_state(program, jax.random.key(0), dataset.train.images)
    take_step = jax.jit(functools.partial(train_step, program))
    mean, average = np.zeros(8), np.zeros(8)
    for step in range(4):
        part = slice(8 * step, 8 * step + 8)
        batch = Batch.from_arrays(
            dataset.train.images[part], dataset.train.labels[part]
        )
        mean = 0.9 * mean + 0.1 * batch_mean(program, state, batch)
        decay = (2 + step) / (11 + step)
        average = decay * average + (1 - decay) * mean
        state, losses = take_step(state, batch)
        assert np.isfinite(losses["total_loss"])
        stats = state.batch_stats["norm"]["mean"]
        np.testing.assert_allclose(stats, mean, rtol=1e-4, atol=1e-5)
        averaged = state.averaged_variables["batch_stats"]["norm"]["mean"]
        np.testing.assert_allclose(averaged, average, rtol=1e-4, atol=1e-5)


look_inside = jax.jit(inspect, static_argnums=0)


def batch_mean(program, state, batch):
    """Returns the mean of the convolution's outputs, which BatchNorm normalizes."""
    inside = look_inside(program, state, batch)
    _, kept = program.model.apply(
        state.variables,
        inside.images,
        capture_intermediates=lambda module, _: module.name == "conv",
        mutable=["intermediates"],
    )
    return np.mean(kept["intermediates"]["conv"]["__call__"][0], axis=(0, 1, 2))
