"""Tests groups of parameters in the optax chain."""

import jax
import numpy as np
import optax
import pytest
from chains import ONES, PARAMS, ZEROS, create, updates_of

from cifar_jax import UserError


def test_a_group_has_its_own_learning_rate():
    tx = create("sgd(momentum=0.5)", groups="group('.*/bias', learning_rate=2)")
    updates = updates_of(tx, ONES)
    np.testing.assert_allclose(updates["conv"]["kernel"], -0.1, rtol=1e-6)
    np.testing.assert_allclose(updates["conv"]["bias"], -0.2, rtol=1e-6)


def test_a_group_has_its_own_weight_decay():
    groups = "group('conv/kernel', weight_decay=3)"
    updates = updates_of(create(groups=groups, weight_decay=0.1), ZEROS)
    np.testing.assert_allclose(updates["conv"]["kernel"], -0.1 * 0.3 * 5, rtol=1e-6)
    np.testing.assert_allclose(updates["dense"]["kernel"], -0.1 * 0.1 * 3, rtol=1e-6)


def test_a_group_with_a_weight_decay_decays_its_biases_too():
    groups = "group('conv/bias', weight_decay=2), group('dense/.*', weight_decay=0)"
    tx = create(groups=groups, weight_decay=0.1, factors={"dense": 1})
    updates = updates_of(tx, ZEROS)
    np.testing.assert_allclose(updates["conv"]["bias"], -0.1 * 0.2 * 7, rtol=1e-6)
    for rest in (updates["conv"]["kernel"], *updates["dense"].values()):
        np.testing.assert_array_equal(rest, 0)


def test_a_group_has_its_own_optimizer():
    groups = "group('.*/bias', optimizer='sgd(momentum=0.5)', learning_rate=3)"
    tx = create("lion", groups=groups)
    state = tx.init(PARAMS)
    for direction in (1.0, 1.5):
        updates, state = tx.update(ONES, state, PARAMS)
        np.testing.assert_allclose(updates["conv"]["kernel"], -0.1, rtol=1e-6)
        np.testing.assert_allclose(updates["conv"]["bias"], -0.3 * direction, rtol=1e-6)


def test_a_group_is_trained_until_a_fraction_of_the_run():
    tx = create("sgd(0.9)", groups="group('conv/.*', until=0.02)")
    state, moved = tx.init(PARAMS), []
    for _ in range(4):
        updates, state = tx.update(ONES, state, PARAMS)
        moved.append(bool((updates["conv"]["kernel"] != 0).all()))
        assert (updates["dense"]["kernel"] != 0).all()
    assert moved == [True, True, False, False]


def test_lookahead_is_around_all_groups():
    # The slow weights go half the way of two steps of each group.
    groups = "group('.*/bias', learning_rate=4), group('conv/kernel', frozen=True)"
    tx = create("lookahead(sgd, period=2)", groups=groups)
    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(2):
        updates, state = tx.update(ONES, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["dense"]["kernel"], 3 - 0.1, rtol=1e-6)
    np.testing.assert_allclose(params["dense"]["bias"], 7 - 0.4, rtol=1e-6)
    np.testing.assert_array_equal(params["conv"]["kernel"], 5)


def test_a_group_has_its_own_schedule():
    tx = create(groups="group('conv/.*', schedule='cosine')")
    state = tx.init(PARAMS)
    for rate in (10.0, 20.0):
        updates, state = tx.update(ONES, state, PARAMS)
        np.testing.assert_allclose(updates["conv"]["kernel"], -rate, rtol=1e-6)
        np.testing.assert_allclose(updates["dense"]["kernel"], -0.1, rtol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd(momentum=0.9)", "adamw"])
def test_a_frozen_group_stays_and_has_no_state(optimizer):
    tx = create(optimizer, groups="group('conv/.*', frozen=True)", weight_decay=0.1)
    updates, state = tx.update(ONES, tx.init(PARAMS), PARAMS)
    jax.tree.map(lambda u: np.testing.assert_array_equal(u, 0), updates["conv"])
    assert all((np.asarray(u) != 0).all() for u in jax.tree.leaves(updates["dense"]))
    kernels = [x.shape for x in jax.tree.leaves(state) if x.shape == (3, 2)]
    assert not kernels


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("group('.*/bias'), group('conv/.*')", "conv/bias is in more than one group"),
        ("group('.*/bias'), group('.*/bias')", "conv/bias is in more than one group"),
        ("group('conv')", "no param matches 'conv'; the params are conv/bias, conv/k"),
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
        (
            "group('.*', optimizer='lookahead(sgd)')",
            "wraps all parameters",
        ),
        ("group('.*', until=0)", "until=0.0 must be above 0"),
        ("group", "missing a required argument: 'pattern'"),
    ],
)
def test_invalid_groups_are_refused(groups, message):
    with pytest.raises(UserError, match=message):
        create(groups=groups)
