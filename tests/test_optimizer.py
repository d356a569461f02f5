"""The learning rate, weight decay and parameter averages, by their formulas."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cifar_jax import optimizer

PARAMS = {
    "conv": {"kernel": jnp.full((3, 2), 5.0), "bias": jnp.full(2, 7.0)},
    "dense": {"kernel": jnp.full((4, 2), 3.0), "bias": jnp.full(2, 7.0)},
}
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)


def assert_trees_close(tree, expected):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-6), tree, expected
    )


def averages_after(updates, start, max_decay):
    """The average of one parameter after each of its updates."""
    tx = optimizer.average_parameters(max_decay)
    param, state = jnp.float32(start), tx.init(jnp.float32(start))
    averages = []
    for update in updates:
        passed_on, state = tx.update(jnp.float32(update), state, param)
        assert passed_on == np.float32(update)
        param = param + passed_on
        averages.append(float(state.average))
    return averages


@pytest.mark.parametrize("jit", [False, True])
def test_staircase_schedule_steps_where_the_tutorial_does(jit):
    decay_steps = 136_718  # int(50000 / 128 * 350)
    schedule = optimizer.staircase_schedule(0.1, 0.1, decay_steps)
    schedule = jax.jit(schedule) if jit else schedule
    for stair in range(8):  # to the tutorial's 1,000,000 steps
        first = stair * decay_steps
        for step in (first, first + 1, first + decay_steps - 1):
            assert float(schedule(jnp.int32(step))) == pytest.approx(
                0.1 * 0.1**stair, rel=1e-6
            )


def test_only_kernels_of_decayed_layers_decay():
    tx = optimizer.create(lambda step: 0.5, ("dense",), 0.1, ema_decay=0.9)
    updates, _ = tx.update(ZEROS, tx.init(PARAMS), PARAMS)
    kernel = jnp.full((4, 2), -0.5 * 0.1 * 3.0)
    assert_trees_close(updates, ZEROS | {"dense": ZEROS["dense"] | {"kernel": kernel}})


def test_plain_sgd_follows_the_schedule():
    tx = optimizer.create(lambda step: 1.0 + step, (), 0.0, ema_decay=0.9)
    gradients, state = jax.tree.map(jnp.ones_like, PARAMS), tx.init(PARAMS)
    for rate in (1, 2, 3):
        updates, state = tx.update(gradients, state, PARAMS)
        assert_trees_close(updates, optax.tree.scale(-rate, gradients))


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


def test_averages_stop_at_the_ceiling():
    # A parameter that is 1 from the first update on: what is missing shrinks by the
    # decay of each step, 2/11, 3/12, then 0.3 instead of 4/13.
    averages = averages_after([1.0, 0.0, 0.0, 0.0], start=0.0, max_decay=0.3)
    decays = [2 / 11, 3 / 12, 0.3, 0.3]
    np.testing.assert_allclose(averages, 1 - np.cumprod(decays), rtol=1e-6)


def test_averages_start_as_copies_of_the_parameters():
    tx = optimizer.create(lambda step: 0.1, ("dense",), 0.1, ema_decay=0.9)
    averages = optimizer.averaged_params(tx.init(PARAMS))
    jax.tree.map(np.testing.assert_array_equal, averages, PARAMS)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(averages)]
    originals = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(PARAMS)]
    assert not set(pointers) & set(originals)


def test_averages_are_of_the_parameters_after_the_step():
    tx = optimizer.create(lambda step: 0.1, ("dense",), 0.1, ema_decay=0.9)
    gradients = jax.tree.map(jnp.ones_like, PARAMS)
    updates, state = tx.update(gradients, tx.init(PARAMS), PARAMS)
    expected = jax.tree.map(
        lambda old, new: 2 / 11 * old + 9 / 11 * new,
        PARAMS,
        optax.apply_updates(PARAMS, updates),
    )
    assert_trees_close(optimizer.averaged_params(state), expected)


def test_averages_need_the_parameters():
    tx = optimizer.average_parameters(0.9)
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(ZEROS, tx.init(PARAMS))
