"""Tests schedule-free learning against optax, and where the network is evaluated."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from chains import PARAMS, create, descend
from helpers import assert_equal_states
from optax import contrib

from cifar_jax import Batch, Config, UserError, build_program, init_state, train_step
from cifar_jax.optimization import OPTIMIZERS
from cifar_jax.optimization.averages import averaged_params
from cifar_jax.registry import resolve
from cifar_jax.training.trained import from_state


def gradients(steps):
    random = np.random.default_rng(0)
    return [
        jax.tree.map(lambda p: jnp.float32(random.standard_normal(p.shape)), PARAMS)
        for _ in range(steps)
    ]


def rate(step):
    return 0.1 * jnp.minimum(1.0, (step + 1) / 3)


DECAYED = jax.tree.map(lambda p: p.shape != (2,), PARAMS)
OPTAX = {
    "schedule_free(sgd, 0.8)": contrib.schedule_free(
        optax.chain(optax.add_decayed_weights(0.1, DECAYED), optax.sgd(rate)), rate, 0.8
    ),
    # The parts of contrib.schedule_free_adamw.
    "schedule_free(adamw(b1=0), weight_lr_power=1)": contrib.schedule_free(
        optax.chain(
            optax.scale_by_rms(0.999, 1e-8, eps_in_sqrt=False, bias_correction=True),
            optax.add_decayed_weights(0.1, DECAYED),
            optax.scale_by_learning_rate(rate),
        ),
        rate,
        weight_lr_power=1.0,
    ),
}


@pytest.mark.parametrize("groups", ["", "group('conv/.*', learning_rate=1)"])
@pytest.mark.parametrize("name", OPTAX)
def test_it_is_as_in_optax(name, groups):
    optimizer = resolve(name, OPTIMIZERS, "optimizer")
    tx = create(name, rate=rate, groups=groups, weight_decay=0.1)
    ours = descend(tx, gradients(6))
    theirs = descend(OPTAX[name], gradients(6))
    for (params, state), (expected, their_state) in zip(ours, theirs, strict=True):
        jax.tree.map(assert_close, params, expected)
        jax.tree.map(
            assert_close,
            optimizer.eval_params(state, params),
            contrib.schedule_free_eval_params(their_state, expected),
        )


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_the_network_is_evaluated_at_the_mean_of_the_params():
    # Defazio et al. 2024, equations 3 to 5, for a constant learning rate.
    optimizer = resolve("clip(schedule_free(sgd), 100.0)", OPTIMIZERS, "optimizer")
    tx = create(optimizer, rate=0.5)
    own, points = PARAMS, []
    for gradient, (params, state) in zip(
        gradients(5), descend(tx, gradients(5)), strict=True
    ):
        own = jax.tree.map(lambda z, g: z - 0.5 * g, own, gradient)
        points.append(own)
        mean = jax.tree.map(lambda *p: np.mean(p, axis=0), *points)
        jax.tree.map(assert_close, optimizer.eval_params(state, params), mean)
        between = jax.tree.map(lambda z, x: 0.1 * z + 0.9 * x, own, mean)
        jax.tree.map(assert_close, params, between)


def test_averages_are_of_the_points_of_evaluation():
    optimizer = resolve("schedule_free(sgd)", OPTIMIZERS, "optimizer")
    tx = create(optimizer, average="ema(0.75)")
    expected = PARAMS
    for params, state in descend(tx, gradients(4)):
        point = optimizer.eval_params(state, params)
        expected = jax.tree.map(lambda a, p: 0.75 * a + 0.25 * p, expected, point)
        jax.tree.map(assert_close, averaged_params(state), expected)


def test_frozen_params_stay_to_the_bit():
    optimizer = resolve("schedule_free(sgd)", OPTIMIZERS, "optimizer")
    odd = jax.tree.map(lambda p: p / 3, PARAMS)
    tx = create(optimizer, groups="group('conv/.*', frozen=True)", weight_decay=0.1)
    *_, (params, state) = descend(tx, gradients(5), odd)
    for tree in (params, optimizer.eval_params(state, params)):
        assert_equal_states(tree["conv"], odd["conv"])


@pytest.mark.parametrize("average", ["none", "ema(0.0)"])
def test_a_trained_network_has_the_params_of_evaluation(dataset, average):
    config = Config(
        model="small", optimizer="schedule_free(sgd)", average=average, batch_size=8
    )
    program = build_program(config, num_classes=3)
    state = init_state(program, jax.random.key(0), dataset.train.images)
    batch = Batch.from_arrays(dataset.train.images[:8], dataset.train.labels[:8])
    for _ in range(3):
        state, _ = jax.jit(train_step, static_argnums=0)(program, state, batch)
    expected = program.optimizer.eval_params(state.opt_state, state.params)
    for raw in (False, True):
        found = from_state(program, state, dataset, raw).variables["params"]
        jax.tree.map(assert_close, found, expected)
    distance = jax.tree.map(lambda x, y: x - y, expected, state.params)
    assert float(optax.tree.norm(distance)) > 1e-3


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ("schedule_free(sgd(momentum=0.9))", "takes the place of momentum"),
        ("schedule_free(adamw)", "takes the place of momentum"),
        ("schedule_free(clip(lion))", "takes the place of momentum"),
        ("schedule_free(muon)", "takes the place of momentum"),
        ("schedule_free(lookahead(sgd))", "already keeps weights of its own"),
        ("schedule_free(sgd, b1=0)", "b1=0.0 must be above 0"),
    ],
)
def test_it_is_refused_around_another_average(optimizer, message):
    with pytest.raises(UserError, match=message):
        resolve(optimizer, OPTIMIZERS, "optimizer")


def test_a_group_cannot_bring_momentum_either():
    groups = "group('.*/bias', optimizer='sgd(momentum=0.9)')"
    create("sgd", groups=groups)
    with pytest.raises(
        UserError, match=r"--param_groups: '\.\*/bias': schedule_free takes the"
    ):
        create("schedule_free(sgd)", groups=groups)
