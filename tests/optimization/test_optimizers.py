"""The learning rate, weight decay, momentum and averages, by their formulas."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cifar_jax.optimization import optimizers as optimizer

VARIABLES = {
    "params": {
        "conv": {"kernel": jnp.full((3, 2), 5.0), "bias": jnp.full(2, 7.0)},
        "dense": {"kernel": jnp.full((4, 2), 3.0), "bias": jnp.full(2, 7.0)},
    },
    "batch_stats": {"norm": {"mean": jnp.full(2, 0.5)}},
}
ZEROS = jax.tree.map(jnp.zeros_like, VARIABLES)
# As the train step gives them: nothing but params has gradients.
GRADIENTS = ZEROS | {"params": jax.tree.map(jnp.ones_like, VARIABLES["params"])}


def create(schedule=lambda step: 0.1, **changes):
    options = {"weight_decay": 0.1, "weight_decays": {"dense": 1}, "ema_decay": 0.9}
    return optimizer.create(schedule, **options | changes)


def assert_trees_close(tree, expected):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-6), tree, expected
    )


def averages_after(updates, start, max_decay):
    """The average of one variable after each of its updates."""
    tx = optimizer.average_variables(max_decay)
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


@pytest.mark.parametrize(
    ("weight_decays", "conv", "dense"),
    [
        ({"dense": 1}, 0.0, 0.1 * 3.0),
        ({"dense": 2.5, "conv": 0.5}, 0.05 * 5.0, 0.25 * 3.0),
        (None, 0.1 * 5.0, 0.1 * 3.0),
    ],
)
def test_kernels_decay_by_the_factors_of_their_layers(weight_decays, conv, dense):
    tx = create(lambda step: 0.5, weight_decays=weight_decays)
    updates, _ = tx.update(ZEROS, tx.init(VARIABLES), VARIABLES)
    kernels = {"conv": jnp.full((3, 2), conv), "dense": jnp.full((4, 2), dense)}
    params = {
        layer: {"kernel": -0.5 * kernel, "bias": jnp.zeros(2)}
        for layer, kernel in kernels.items()
    }
    assert_trees_close(updates, ZEROS | {"params": params})


def test_plain_sgd_follows_the_schedule():
    tx = create(lambda step: 1.0 + step, weight_decay=0.0)
    state = tx.init(VARIABLES)
    for rate in (1, 2, 3):
        updates, state = tx.update(GRADIENTS, state, VARIABLES)
        assert_trees_close(updates, optax.tree.scale(-rate, GRADIENTS))


def test_biases_have_their_own_learning_rate():
    tx = create(weight_decay=0.0, bias_learning_rate_factor=2.0, momentum=0.5)
    updates, _ = tx.update(GRADIENTS, tx.init(VARIABLES), VARIABLES)
    layer = updates["params"]["conv"]
    np.testing.assert_allclose(layer["kernel"], -0.1, rtol=1e-6)
    np.testing.assert_allclose(layer["bias"], -0.2, rtol=1e-6)
    np.testing.assert_array_equal(updates["batch_stats"]["norm"]["mean"], 0)


# torch.optim.SGD(lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=...) on a weight of
# 3 with the gradients below, after each step; PyTorch 2.13, by golden/make_sgd.py.
SGD_GRADIENTS = (1.0, -0.5, 2.0, 0.25)
PYTORCH = {
    False: (2.897, 2.851403, 2.6075144, 2.3604071),
    True: (2.8043, 2.8105419, 2.3883433, 2.1388564),
}


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_is_pytorchs(nesterov):
    tx = create(weight_decay=0.01, weight_decays=None, momentum=0.9, nesterov=nesterov)
    variables = {"params": {"dense": {"kernel": jnp.float32(3.0)}}}
    state, weights = tx.init(variables), []
    for gradient in SGD_GRADIENTS:
        gradients = jax.tree.map(lambda _, g=gradient: jnp.float32(g), variables)
        updates, state = tx.update(gradients, state, variables)
        variables = optax.apply_updates(variables, updates)
        weights.append(float(variables["params"]["dense"]["kernel"]))
    np.testing.assert_allclose(weights, PYTORCH[nesterov], rtol=1e-6)


def test_two_drops_at_one_step_are_two():
    schedule = optimizer.drops_schedule(0.5, 0.1, [10, 10, 12])
    rates = [float(schedule(step)) for step in (9, 10, 12)]
    np.testing.assert_allclose(rates, [0.5, 0.005, 0.0005], rtol=1e-6)


def test_drops_schedule_drops_from_the_step_on():
    schedule = optimizer.drops_schedule(0.5, 0.1, [10, 12])
    rates = [float(schedule(jnp.int32(step))) for step in (0, 9, 10, 11, 12, 100)]
    np.testing.assert_allclose(rates, [0.5, 0.5, 0.05, 0.05, 0.005, 0.005], rtol=1e-6)


def test_cosine_schedule_ends_at_zero():
    schedule = optimizer.cosine_schedule(0.4, 100)
    rates = [float(schedule(jnp.int32(step))) for step in (0, 25, 50, 100)]
    expected = [0.4, 0.4 * (1 + math.sqrt(0.5)) / 2, 0.2, 0]
    np.testing.assert_allclose(rates, expected, rtol=1e-6, atol=1e-7)


def test_warm_up_rises_in_a_line_from_above_zero():
    schedule = optimizer.warmed_up(lambda step: 0.8, 4)
    rates = [float(schedule(jnp.int32(step))) for step in range(6)]
    np.testing.assert_allclose(rates, [0.2, 0.4, 0.6, 0.8, 0.8, 0.8], rtol=1e-6)


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


def test_averages_start_as_copies_of_the_variables():
    averages = optimizer.averaged_variables(create().init(VARIABLES))
    jax.tree.map(np.testing.assert_array_equal, averages, VARIABLES)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(averages)]
    originals = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(VARIABLES)]
    assert not set(pointers) & set(originals)


def test_averages_are_of_the_variables_after_the_step():
    tx = create()
    # The step's new statistics reach the chain with the old params.
    statistics = {"norm": {"mean": jnp.full(2, 1.5)}}
    variables = VARIABLES | {"batch_stats": statistics}
    updates, state = tx.update(GRADIENTS, tx.init(VARIABLES), variables)
    expected = jax.tree.map(
        lambda old, new: 2 / 11 * old + 9 / 11 * new,
        VARIABLES,
        optax.apply_updates(variables, updates),
    )
    assert_trees_close(optimizer.averaged_variables(state), expected)
    jax.tree.map(
        np.testing.assert_array_equal,
        optax.apply_updates(variables, updates)["batch_stats"],
        statistics,
    )


def test_averages_need_the_variables():
    tx = optimizer.average_variables(0.9)
    with pytest.raises(ValueError, match="needs the variables"):
        tx.update(ZEROS, tx.init(VARIABLES))
