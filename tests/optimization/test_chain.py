"""Tests weight decay, parameter groups and averages in the optax chain."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cifar_jax import UserError
from cifar_jax.optimization import chain
from cifar_jax.optimization.averages import averaged_params
from cifar_jax.optimization.chain import PARAM_GROUPS
from cifar_jax.optimization.optimizers import SGD, AdamW, Lion, Lookahead
from cifar_jax.registry import resolve_all

PARAMS = {
    "conv": {"kernel": jnp.full((3, 2), 5.0), "bias": jnp.full(2, 7.0)},
    "dense": {"kernel": jnp.full((4, 2), 3.0), "bias": jnp.full(2, 7.0)},
}
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)
ONES = jax.tree.map(jnp.ones_like, PARAMS)


def create(optimizer=None, rate=0.1, groups="", **changes):
    options = {"weight_decay": 0.1, "weight_decays": {"dense": 1}, "ema_decay": 0.9}
    options |= {"max_steps": 100}
    schedules = {"": lambda step: rate, "cosine": lambda step: 10.0 * (step + 1)}
    return chain.create(
        optimizer or SGD(),
        schedules.__getitem__,
        groups=resolve_all(groups, PARAM_GROUPS, "param_groups"),
        **options | changes,
    )


def updates_of(tx, gradients, params=PARAMS):
    return tx.update(gradients, tx.init(params), params)[0]


def assert_trees_close(tree, expected):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-6), tree, expected
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
    updates = updates_of(create(rate=0.5, weight_decays=weight_decays), ZEROS)
    kernels = {"conv": jnp.full((3, 2), conv), "dense": jnp.full((4, 2), dense)}
    expected = {
        layer: {"kernel": -0.5 * kernel, "bias": jnp.zeros(2)}
        for layer, kernel in kernels.items()
    }
    assert_trees_close(updates, expected)


def test_averages_are_of_the_params_after_the_step():
    tx = create()
    updates, state = tx.update(ONES, tx.init(PARAMS), PARAMS)
    expected = jax.tree.map(
        lambda old, new: 2 / 11 * old + 9 / 11 * new,
        PARAMS,
        optax.apply_updates(PARAMS, updates),
    )
    assert_trees_close(averaged_params(state), expected)


def test_a_group_has_its_own_learning_rate():
    tx = create(
        SGD(momentum=0.5), groups="group('.*/bias', learning_rate=2)", weight_decay=0.0
    )
    updates = updates_of(tx, ONES)
    np.testing.assert_allclose(updates["conv"]["kernel"], -0.1, rtol=1e-6)
    np.testing.assert_allclose(updates["conv"]["bias"], -0.2, rtol=1e-6)


def test_a_group_has_its_own_weight_decay():
    groups = "group('conv/kernel', weight_decay=3)"
    updates = updates_of(create(groups=groups, weight_decays=None), ZEROS)
    np.testing.assert_allclose(updates["conv"]["kernel"], -0.1 * 0.3 * 5, rtol=1e-6)
    np.testing.assert_allclose(updates["dense"]["kernel"], -0.1 * 0.1 * 3, rtol=1e-6)


def test_a_group_with_a_weight_decay_decays_its_biases_too():
    groups = "group('conv/bias', weight_decay=2), group('dense/.*', weight_decay=0)"
    updates = updates_of(create(groups=groups), ZEROS)
    np.testing.assert_allclose(updates["conv"]["bias"], -0.1 * 0.2 * 7, rtol=1e-6)
    for rest in (updates["conv"]["kernel"], *updates["dense"].values()):
        np.testing.assert_array_equal(rest, 0)


def test_a_group_has_its_own_optimizer():
    groups = "group('.*/bias', optimizer='sgd(momentum=0.5)', learning_rate=3)"
    tx = create(Lion(), groups=groups, weight_decay=0.0)
    state = tx.init(PARAMS)
    for direction in (1.0, 1.5):
        updates, state = tx.update(ONES, state, PARAMS)
        np.testing.assert_allclose(updates["conv"]["kernel"], -0.1, rtol=1e-6)
        np.testing.assert_allclose(updates["conv"]["bias"], -0.3 * direction, rtol=1e-6)


def test_a_group_is_trained_until_a_fraction_of_the_run():
    tx = create(SGD(0.9), groups="group('conv/.*', until=0.02)", weight_decay=0.0)
    state, moved = tx.init(PARAMS), []
    for _ in range(4):
        updates, state = tx.update(ONES, state, PARAMS)
        moved.append(bool((updates["conv"]["kernel"] != 0).all()))
        assert (updates["dense"]["kernel"] != 0).all()
    assert moved == [True, True, False, False]


def test_lookahead_is_around_all_groups():
    # The slow weights go half the way of two steps of each group.
    groups = "group('.*/bias', learning_rate=4), group('conv/kernel', frozen=True)"
    tx = create(Lookahead(SGD(), period=2), groups=groups, weight_decay=0.0)
    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(2):
        updates, state = tx.update(ONES, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["dense"]["kernel"], 3 - 0.1, rtol=1e-6)
    np.testing.assert_allclose(params["dense"]["bias"], 7 - 0.4, rtol=1e-6)
    np.testing.assert_array_equal(params["conv"]["kernel"], 5)


def test_a_group_has_its_own_schedule():
    tx = create(groups="group('conv/.*', schedule='cosine')", weight_decay=0.0)
    state = tx.init(PARAMS)
    for rate in (10.0, 20.0):
        updates, state = tx.update(ONES, state, PARAMS)
        np.testing.assert_allclose(updates["conv"]["kernel"], -rate, rtol=1e-6)
        np.testing.assert_allclose(updates["dense"]["kernel"], -0.1, rtol=1e-6)


@pytest.mark.parametrize("optimizer", [SGD(momentum=0.9), AdamW()])
def test_a_frozen_group_stays_and_has_no_state(optimizer):
    tx = create(optimizer, groups="group('conv/.*', frozen=True)", weight_decays=None)
    updates, state = tx.update(ONES, tx.init(PARAMS), PARAMS)
    jax.tree.map(lambda u: np.testing.assert_array_equal(u, 0), updates["conv"])
    assert all((np.asarray(u) != 0).all() for u in jax.tree.leaves(updates["dense"]))
    kernels = [x.shape for x in jax.tree.leaves(state) if x.shape == (3, 2)]
    assert len(kernels) == 1  # Only the average.


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("group('.*/bias'), group('conv/.*')", "conv/bias is in more than one group"),
        ("group('.*/bias'), group('.*/bias')", "conv/bias is in more than one group"),
        ("group('conv')", "no parameter matches 'conv'; there are conv/bias, conv/k"),
    ],
)
def test_every_parameter_is_in_one_group(groups, message):
    with pytest.raises(UserError, match=message):
        create(groups=groups).init(PARAMS)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("group('(')", "pattern='\\('"),
        ("group('.*', learning_rate=0)", "learning_rate=0.0 must be above 0"),
        ("group('.*', weight_decay=-1)", "weight_decay=-1.0 must be at least 0"),
        ("group('.*', schedule='x')", "schedule=x: x is unknown"),
        ("group('.*', optimizer='x')", "optimizer=x: x is unknown"),
        ("group('.*', optimizer='lookahead(sgd)')", "lookahead is for all parameters"),
        ("group('.*', until=0)", "until=0.0 must be above 0"),
        ("group", "missing a required argument: 'pattern'"),
    ],
)
def test_invalid_groups_are_refused(groups, message):
    with pytest.raises(UserError, match=message):
        create(groups=groups)
