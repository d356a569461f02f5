"""Tests moving averages by their formulas; test_golden.py compares with TensorFlow."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cifar_jax import UserError
from cifar_jax.optimization.averages import average_params, averaged_params

PARAMS = {"dense": {"kernel": jnp.full((4, 2), 3.0), "bias": jnp.full(2, 7.0)}}


def averages_after(updates, start, max_decay):
    """Returns the average of one variable after each of its updates."""
    tx = average_params(max_decay)
    param, state = jnp.float32(start), tx.init(jnp.float32(start))
    averages = []
    for update in updates:
        passed_on, state = tx.update(jnp.float32(update), state, param)
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
    averages = averages_after(updates, start=4.0, max_decay=0.9999)
    for last in (1, 2, 3, steps):
        left = [math.perm(k + 10, 9) / math.perm(last + 10, 9) for k in range(last + 1)]
        weights = np.diff(left, prepend=0.0)
        assert averages[last - 1] == pytest.approx(
            weights @ params[: last + 1], rel=1e-5
        )


def test_the_decay_has_a_limit():
    # The parameter is 1 from the first update on, so the average's distance from 1
    # shrinks by the decay of each step: 2/11, 3/12, then 0.3 instead of 4/13.
    averages = averages_after([1.0, 0.0, 0.0, 0.0], start=0.0, max_decay=0.3)
    decays = [2 / 11, 3 / 12, 0.3, 0.3]
    np.testing.assert_allclose(averages, 1 - np.cumprod(decays), rtol=1e-6)


def test_averages_start_as_copies():
    averages = averaged_params(average_params(0.9).init(PARAMS))
    jax.tree.map(np.testing.assert_array_equal, averages, PARAMS)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(averages)]
    originals = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(PARAMS)]
    assert not set(pointers) & set(originals)


def test_averages_need_the_params():
    tx = average_params(0.9)
    with pytest.raises(ValueError, match="needs the params"):
        tx.update(PARAMS, tx.init(PARAMS))


def test_a_chain_without_averages_is_named():
    with pytest.raises(UserError, match="opt_state has no averages"):
        averaged_params(optax.sgd(1.0).init(PARAMS))
