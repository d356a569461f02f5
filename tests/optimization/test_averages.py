"""Tests moving averages by their formulas; test_golden.py compares with TensorFlow."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_equal_states

from cifar_jax import (
    Batch,
    Config,
    UserError,
    build_program,
    fit,
    init_state,
    train_step,
)
from cifar_jax.optimization.averages import (
    AVERAGES,
    average_params,
    averaged_params,
)
from cifar_jax.registry import resolve

PARAMS = {"dense": {"kernel": jnp.full((4, 2), 3.0), "bias": jnp.full(2, 7.0)}}


def transformation(average, max_updates=100):
    average = resolve(average, AVERAGES, "average")
    return average_params(average, max_updates, lambda _, params: params)


def averages_after(updates, start, average):
    """Returns the average of one variable after each of its updates."""
    tx = transformation(average, len(updates))
    param, state = jnp.float32(start), tx.init(jnp.float32(start))
    averages = []
    for update in updates:
        passed_on, state = tx.update(jnp.float32(update), state, param, opt_state=())
        assert passed_on == np.float32(update)
        param = param + passed_on
        averages.append(float(state.average))
    return averages


def test_averages_ramp_up():
    # Decays (1 + n) / (10 + n) for n = k + 1 ... N telescope to
    # (k + 2)...(k + 10) / (N + 2)...(N + 10): the share of average k left at N.
    steps = 30
    updates = np.random.RandomState(0).standard_normal(steps)
    params = 4.0 + np.concatenate([[0.0], np.cumsum(updates)])
    averages = averages_after(updates, 4.0, "ema(0.9999, ramp=True)")
    for last in (1, 2, 3, steps):
        left = [math.perm(k + 10, 9) / math.perm(last + 10, 9) for k in range(last + 1)]
        weights = np.diff(left, prepend=0.0)
        assert averages[last - 1] == pytest.approx(
            weights @ params[: last + 1], rel=1e-5
        )


def test_the_decay_has_a_limit():
    # The parameter is 1 from the first update on, so the average's distance from 1
    # shrinks by the decay of each step: 2/11, 3/12, then 0.3 instead of 4/13.
    averages = averages_after([1.0, 0.0, 0.0, 0.0], 0.0, "ema(0.3, ramp=True)")
    decays = [2 / 11, 3 / 12, 0.3, 0.3]
    np.testing.assert_allclose(averages, 1 - np.cumprod(decays), rtol=1e-6)


def test_averages_start_as_copies():
    averages = averaged_params(transformation("ema(0.9)").init(PARAMS))
    assert_equal_states(averages, PARAMS)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(averages)]
    originals = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(PARAMS)]
    assert not set(pointers) & set(originals)


def test_averages_need_the_params():
    tx = transformation("ema(0.9)")
    with pytest.raises(ValueError, match="needs the params"):
        tx.update(PARAMS, tx.init(PARAMS), opt_state=())


def test_a_chain_without_averages_has_none():
    assert averaged_params(optax.adam(1.0).init(PARAMS)) is None


def test_a_layer_can_be_named_average():
    params = {"average": {"kernel": jnp.ones(3)}}
    tx = optax.chain(optax.trace(0.9), optax.with_extra_args_support(optax.adam(1.0)))
    state = (tx.init(params), transformation("ema(0.9)").init(params))
    assert_equal_states(averaged_params(state), params)


def test_without_a_ramp_the_decay_is_constant():
    averages = averages_after([1.0, 0.0, 0.0, 0.0], 0.0, "ema(0.3)")
    np.testing.assert_allclose(averages, 1 - 0.3 ** np.arange(1, 5), rtol=1e-6)


@pytest.mark.parametrize(
    ("start", "steps", "first"), [(0.75, 20, 15), (0.0, 5, 0), (0.5, 7, 3)]
)
def test_swa_is_the_mean_of_the_last_part(start, steps, first):
    updates = np.random.RandomState(0).standard_normal(steps)
    params = 4.0 + np.cumsum(updates)
    averages = averages_after(updates, 4.0, f"swa({start})")
    np.testing.assert_allclose(averages[:first], params[:first], rtol=1e-5)
    for last in range(first, steps):
        mean = params[first : last + 1].mean()
        assert averages[last] == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "keeps", "open_ended"),
    [
        ("ema(0.9)", True, True),
        ("ema(0.9, ramp=True)", True, True),
        ("swa", True, False),
        ("none", False, True),
    ],
)
def test_what_averages_keep_and_depend_on(text, keeps, open_ended):
    average = resolve(text, AVERAGES, "average")
    assert (average.keeps, average.open_ended) == (keeps, open_ended)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ema", "missing a required argument: 'decay'"),
        ("ema(1.1)", "decay=1.1 must be at most 1"),
        ("swa(1)", "start=1.0 must be below 1"),
        ("median", "median is unknown; choose from ema, swa, none"),
    ],
)
def test_invalid_averages_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        resolve(text, AVERAGES, "average")


SETTINGS = {
    "model": "batch_norm",
    "max_steps": 4,
    "batch_size": 8,
    "learning_rate": 0.01,
    "train_dir": None,
}


def test_statistics_of_batch_norm_have_the_same_average(dataset):
    program = build_program(Config(average="swa(0.5)", **SETTINGS), num_classes=3)
    state = init_state(program, jax.random.key(0), dataset.train.images)
    take_step = jax.jit(train_step, static_argnums=0)
    seen = []
    for step in range(4):
        part = slice(8 * step, 8 * step + 8)
        batch = Batch.from_arrays(
            dataset.train.images[part], dataset.train.labels[part]
        )
        state, _ = take_step(program, state, batch)
        seen.append(state.variables)
    jax.tree.map(
        lambda average, *last: np.testing.assert_allclose(
            average, np.mean(last, axis=0), rtol=1e-5, atol=1e-7
        ),
        state.averaged_variables,
        *seen[2:],
    )


def test_without_an_average_the_last_variables_are_evaluated(dataset):
    result = fit(Config(average="none", **SETTINGS), dataset, log=lambda line: None)
    jax.tree.map(
        np.testing.assert_array_equal, result.trained.variables, result.state.variables
    )
