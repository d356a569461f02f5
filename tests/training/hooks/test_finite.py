import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import pytest

from cifar_jax import Batch, Config, build_program, init_state, inspect, train_step
from cifar_jax.training.hooks.finite import explain, first_non_finite, is_finite
from cifar_jax.training.inspection import all_finite


@pytest.fixture(scope="module")
def program():
    return build_program(Config(), num_classes=3)


@pytest.fixture(scope="module")
def state(program, dataset):
    return init_state(program, jax.random.key(0), dataset.train.images)


@pytest.fixture(scope="module")
def functions(program, dataset):
    batch = Batch.from_arrays(dataset.train.images[:4], dataset.train.labels[:4])
    take_step = jax.jit(lambda state: train_step(program, state, batch))
    look_inside = jax.jit(lambda state, step: inspect(program, state, batch))

    def train_steps(state, first, end, spoil=lambda state, step: state):
        for step in range(first, end):
            state, metrics = take_step(state)
            state = spoil(state, step)
        return state, metrics

    return train_steps, look_inside


def poison(state, layer: str, value: float, what: str = "kernel"):
    kernel = state.params[layer][what]
    spoiled = {what: kernel.at[(0,) * kernel.ndim].set(value)}
    params = state.params | {layer: state.params[layer] | spoiled}
    return dataclasses.replace(state, params=params)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -jnp.inf])
def test_all_finite(value):
    tree = {"a": jnp.ones(3), "n": jnp.int32(1), "k": jax.random.key(0)}
    assert all_finite(tree)
    assert not all_finite(tree | {"b": jnp.ones(3).at[1].set(value)})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "value", "where"),
    [
        ("conv1", jnp.nan, "the parameters of conv1"),
        ("local4", jnp.inf, "the parameters of local4"),
        ("local3", 3e38, "the activations of local3"),
        ("softmax_linear", 3e38, "the activations of softmax_linear"),
    ],
)
def test_the_first_layer_in_order_of_computation_is_named(
    state, functions, layer, value, where
):
    # With large activations, the product with a huge weight overflows.
    state = poison(state, "conv2", 10.0, "bias")
    state = jax.tree.map(lambda x: x, poison(state, layer, value))
    if "activations" in where:
        bias = jnp.full_like(state.params[layer]["bias"], 3e38)
        layer_params = state.params[layer] | {"bias": bias}
        layer_params["kernel"] = jnp.full_like(layer_params["kernel"], 1e38)
        params = state.params | {layer: layer_params}
        state = dataclasses.replace(state, params=params)
    assert first_non_finite(functions[1](state, 0)) == where


def test_a_fresh_state_is_finite(state, functions):
    assert first_non_finite(functions[1](state, 0)) is None


@pytest.mark.slow
def test_the_step_between_checks_is_found(state, functions):
    train_steps, inspect = functions

    def spoil(state, step):
        return poison(state, "conv2", jnp.nan) if step == 2 else state

    poisoned = functools.partial(train_steps, spoil=spoil)
    state, losses = poisoned(state, 0, 2)
    assert is_finite((state, losses))
    after, losses = poisoned(state, 2, 5)
    assert not is_finite((after, losses))
    steps = types.SimpleNamespace(train_steps=poisoned, inspect=inspect)
    found = explain(steps, state, 5)
    assert found == (3, "the parameters of conv2")


def test_a_state_spoiled_by_the_last_update_is_rejected(state, functions):
    train_steps, inspect = functions
    poisoned = functools.partial(
        train_steps, spoil=lambda state, step: poison(state, "conv1", jnp.inf)
    )
    after, losses = poisoned(state, 0, 1)
    assert not is_finite((after, losses))
    steps = types.SimpleNamespace(train_steps=poisoned, inspect=inspect)
    found = explain(steps, state, 1)
    assert found == (0, "the updated variables or their averages")
