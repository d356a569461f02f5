"""Tests sharpness-aware minimization against PyTorch, and what its two passes share."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from helpers import assert_equal_states
from jax.flatten_util import ravel_pytree

from cifar_jax import (
    Batch,
    Config,
    Network,
    UserError,
    build_program,
    init_state,
    train_step,
)
from cifar_jax.optimization import OPTIMIZERS
from cifar_jax.registry import resolve
from cifar_jax.training.steps import forward

GOLDEN = pathlib.Path(__file__).parents[2] / "golden" / "optimizers.json"
take_step = jax.jit(train_step, static_argnums=0)


def sines(_, shape, dtype=jnp.float32):
    return jnp.sin(jnp.arange(np.prod(shape), dtype=dtype)).reshape(shape) / 2


class TwoLayers(Network):
    """The network of make_optimizers.py."""

    @nn.compact
    def __call__(self, images, train=False):
        hidden = nn.Dense(4, kernel_init=sines, bias_init=sines, name="hidden")
        head = nn.Dense(self.num_classes, kernel_init=sines, bias_init=sines)
        return head(jnp.tanh(hidden(images.reshape(len(images), -1))))


def start(dataset, optimizer, **changes):
    """Returns the program and the first state of a run, and a batch."""
    config = Config(
        **{"model": "batch_norm", "batch_size": 8, "optimizer": optimizer} | changes
    )
    program = build_program(config, num_classes=3)
    state = init_state(program, jax.random.key(0), dataset.train.images)
    batch = Batch.from_arrays(dataset.train.images[:8], dataset.train.labels[:8])
    return program, state, batch


def test_steps_are_those_of_pytorch():
    images = np.uint8(np.arange(6 * 12) * 37 % 256).reshape(6, 2, 2, 3)
    config = Config(
        optimizer="sam(sgd(momentum=0.9), rho=0.05)",
        learning_rate=0.1,
        schedule="constant",
        weight_decay=0.01,
        normalization="tf",
        distortions="",
        image_size=2,
        batch_size=6,
        average="none",
    )
    program = build_program(config, num_classes=3, model=TwoLayers())
    state = init_state(program, jax.random.key(0), images)
    batch = Batch.from_arrays(images, np.arange(6) % 3)
    for expected in json.loads(GOLDEN.read_text())["sam"]:
        state, _ = take_step(program, state, batch)
        params = state.params
        found = [
            np.ravel(params[layer][kind])
            for layer in ("hidden", "Dense_0")
            for kind in ("kernel", "bias")
        ]
        np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-6)


def test_the_second_gradients_are_of_the_same_distorted_batch(dataset):
    program, state, batch = start(dataset, "sam(sgd, rho=0.5)", weight_decay=0.0)

    def gradients(params):
        return jax.grad(forward, argnums=1, has_aux=True)(program, params, state, batch)

    first, seen = gradients(state.params)
    flat, unravel = ravel_pytree(first)
    way = unravel(0.5 * flat / jnp.linalg.norm(flat))
    second, _ = gradients(jax.tree.map(jnp.add, state.params, way))
    after, losses = take_step(program, state, batch)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, second)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        after.params,
        expected,
    )
    # The loss and the running averages are those at the params.
    assert losses["cross_entropy"] == pytest.approx(float(seen.losses["cross_entropy"]))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        after.batch_stats,
        seen.batch_stats,
    )
    plain = dataclasses.replace(
        program, optimizer=resolve("sgd", OPTIMIZERS, "optimizer")
    )
    usual, _ = take_step(plain, state, batch)
    distance = jax.tree.map(lambda a, b: a - b, usual.params, after.params)
    assert float(optax.tree.norm(distance)) > 1e-3


def test_a_tiny_distance_is_none(dataset):
    states = []
    for optimizer in ("sgd(momentum=0.9)", "sam(sgd(momentum=0.9), rho=1e-7)"):
        program, state, batch = start(dataset, optimizer)
        for _ in range(3):
            state, _ = take_step(program, state, batch)
        states.append(state.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *states
    )


def test_frozen_params_are_not_moved(dataset):
    """Neither in the end nor for the second gradients, whose direction they leave."""
    groups = "group('conv/.*', frozen=True)"
    program, state, batch = start(dataset, "sam(sgd, rho=2.0)", param_groups=groups)
    gradients = jax.tree.map(jnp.ones_like, state.params)
    point = program.gradient_point(state.params, gradients)
    assert_equal_states(point["conv"], state.params["conv"])
    moved = jax.tree.map(jnp.subtract, point["head"], state.params["head"])
    norm = jax.tree.map(jnp.subtract, point["norm"], state.params["norm"])
    assert float(optax.tree.norm((moved, norm))) == pytest.approx(2.0, rel=1e-5)
    after, _ = take_step(program, state, batch)
    assert_equal_states(after.params["conv"], state.params["conv"])


def test_zero_gradients_stay_in_place():
    sam = resolve("clip(sam(sgd))", OPTIMIZERS, "optimizer")
    params = {"dense": {"kernel": jnp.ones(3)}}
    zeros = jax.tree.map(jnp.zeros_like, params)
    assert_equal_states(sam.gradient_point(params, zeros), params)


def test_every_batch_of_an_update_has_its_own_point(dataset):
    program, state, batch = start(
        dataset, "accumulate(sam(sgd, rho=0.5), 2)", max_steps=2, schedule="constant"
    )
    single = dataclasses.replace(
        program, optimizer=resolve("sam(sgd, rho=0.5)", OPTIMIZERS, "optimizer")
    )
    params = [take_step(single, _fresh(single, state), batch)[0].params]
    middle, _ = take_step(program, state, batch)
    assert_equal_states(middle.params, state.params)
    other = dataclasses.replace(middle, opt_state=single.tx.init(state.params))
    params.append(take_step(single, other, batch)[0].params)
    after, _ = take_step(program, middle, batch)
    jax.tree.map(
        lambda found, a, b: np.testing.assert_allclose(
            found, (a + b) / 2, rtol=1e-5, atol=1e-6
        ),
        after.params,
        *params,
    )


def _fresh(program, state):
    return dataclasses.replace(state, opt_state=program.tx.init(state.params))


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ("sam", "missing a required argument: 'optimizer'"),
        ("sam(sgd, rho=0)", "rho=0.0 must be above 0"),
        ("sam(clip(sam(sgd)))", "already has sam around it"),
        ("sam(accumulate(sgd, 2))", r"write accumulate\(sam\(...\), 2\)"),
    ],
)
def test_misuse_is_refused(optimizer, message):
    with pytest.raises(UserError, match=message):
        resolve(optimizer, OPTIMIZERS, "optimizer")
