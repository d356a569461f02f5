"""Tests that the optimizer and the reported loss agree on weight decay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import PARAMS, ZEROS, create, updates_of

from cifar_jax import Config, build_program, init_state
from cifar_jax.optimization.param_groups import PARAM_GROUPS
from cifar_jax.optimization.weight_decay import WeightDecay
from cifar_jax.registry import resolve_all

OF_CONV, OF_DENSE, OF_BIAS = 6 * 5.0**2 / 2, 8 * 3.0**2 / 2, 2 * 7.0**2 / 2


def decay(factors=None, groups="", in_loss=True, coefficient=0.1):
    groups = resolve_all(groups, PARAM_GROUPS, "param_groups")
    return WeightDecay(coefficient, in_loss, factors, groups)


@pytest.mark.parametrize(
    ("factors", "conv", "dense"),
    [
        ({"dense": 1}, 0.0, 0.1 * 3.0),
        ({"dense": 2.5, "conv": 0.5}, 0.05 * 5.0, 0.25 * 3.0),
        (None, 0.1 * 5.0, 0.1 * 3.0),
    ],
)
def test_kernels_decay_by_the_factors_of_their_layers(factors, conv, dense):
    tx = create(rate=0.5, weight_decay=0.1, factors=factors)
    updates = updates_of(tx, ZEROS)
    for layer, kernel in {"conv": conv, "dense": dense}.items():
        np.testing.assert_allclose(updates[layer]["kernel"], -0.5 * kernel, rtol=1e-6)
        np.testing.assert_array_equal(updates[layer]["bias"], 0)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"weight_loss": 0.1 * (OF_CONV + OF_DENSE)}),
        ({"factors": {"dense": 2.5}}, {"dense/weight_loss": 0.25 * OF_DENSE}),
        (
            {"factors": {"dense": 1, "conv": 2}},
            {"dense/weight_loss": 0.1 * OF_DENSE, "conv/weight_loss": 0.2 * OF_CONV},
        ),
        ({"coefficient": 0.0}, {}),
        ({"in_loss": False}, {}),
        ({"groups": "group('.*/kernel', weight_decay=0)"}, {}),
        (
            {"groups": "group('conv/.*', frozen=True)"},
            {"weight_loss": 0.1 * OF_DENSE},
        ),
        (
            {"groups": "group('conv/.*', weight_decay=3)"},
            {"weight_loss": 0.3 * (OF_CONV + OF_BIAS) + 0.1 * OF_DENSE},
        ),
        (
            {"groups": "group('conv/.*', learning_rate=3)"},
            {"weight_loss": 0.1 * (OF_CONV + OF_DENSE)},
        ),
        (
            {"factors": {"dense": 1}, "groups": "group('conv/bias', weight_decay=2)"},
            {"dense/weight_loss": 0.1 * OF_DENSE, "conv/weight_loss": 0.2 * OF_BIAS},
        ),
        (
            {"groups": "group('conv/.*', optimizer='adamw')"},
            {"weight_loss": 0.1 * OF_DENSE},
        ),
        (
            {"in_loss": False, "groups": "group('conv/.*', optimizer='sgd')"},
            {"weight_loss": 0.1 * OF_CONV},
        ),
    ],
)
def test_terms_of_the_loss(settings, expected):
    terms = decay(**settings).penalties(PARAMS)
    assert list(terms) == list(expected)
    assert {name: float(term) for name, term in terms.items()} == pytest.approx(
        expected
    )


@pytest.mark.parametrize(
    "groups",
    [
        "",
        "group('.*/bias', weight_decay=2)",
        "group('conv/.*', weight_decay=0.5), group('dense/kernel', weight_decay=0)",
        "group('conv/.*', frozen=True)",
    ],
)
@pytest.mark.parametrize("factors", [None, {"dense": 2.5}])
def test_the_decay_is_the_gradient_of_the_penalties(groups, factors):
    of_loss = jax.grad(
        lambda params: sum(
            decay(factors, groups).penalties(params).values(), start=jnp.zeros([])
        )
    )(PARAMS)
    tx = create(rate=1.0, groups=groups, weight_decay=0.1, factors=factors)
    updates = updates_of(tx, ZEROS)
    jax.tree.map(
        lambda update, gradient: np.testing.assert_allclose(-update, gradient),
        updates,
        of_loss,
    )


def test_it_is_a_static_argument():
    equal = [decay({"dense": 2.0}, "group('.*/bias', weight_decay=2)") for _ in "ab"]
    assert equal[0] == equal[1]
    assert hash(equal[0]) == hash(equal[1])
    assert equal[0] != decay({"dense": 1.0}, "group('.*/bias', weight_decay=2)")


def test_a_run_reports_what_its_groups_decay(dataset):
    def terms(groups):
        config = Config(model="small", batch_size=8, param_groups=groups)
        program = build_program(config, num_classes=3)
        state = init_state(program, jax.random.key(0), dataset.train.images)
        return program.loss_terms({"cross_entropy": jnp.float32(1)}, state.params)

    assert float(terms("")["hidden/weight_loss"]) > 0
    without = terms("group('.*/kernel', weight_decay=0)")
    assert {name: float(term) for name, term in without.items()} == {
        "cross_entropy": 1.0,
        "total_loss": 1.0,
    }
