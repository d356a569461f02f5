"""Tests what passes through the optax chain, and its averages at the end."""

import dataclasses
import functools
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from chains import ONES, PARAMS, create
from optax import contrib

from cifar_jax import Batch, Config, build_program, init_state, train_step
from cifar_jax.optimization import OPTIMIZERS, Optimizer
from cifar_jax.optimization.averages import averaged_params


def assert_trees_close(tree, expected):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-6), tree, expected
    )


def test_averages_are_of_the_params_after_the_step():
    tx = create(average="ema(0.9, ramp=True)")
    updates, state = tx.update(ONES, tx.init(PARAMS), PARAMS)
    expected = jax.tree.map(
        lambda old, new: 2 / 11 * old + 9 / 11 * new,
        PARAMS,
        optax.apply_updates(PARAMS, updates),
    )
    assert_trees_close(averaged_params(state), expected)


def test_nothing_is_kept_without_an_average():
    assert not jax.tree.leaves(create(average="none", rate=0.1).init(PARAMS))[1:]
    assert averaged_params(create(average="none").init(PARAMS)) is None


class Polyak(Optimizer):
    """Steps as long as the loss is above 0 (Polyak, Introduction to Optimization)."""

    decay_in_loss: ClassVar[bool] = True

    def transform(self, schedule, decay):
        return optax.chain(decay, optax.polyak_sgd())


class Plateau(Optimizer):
    """Half the rate whenever the loss has not improved."""

    decay_in_loss: ClassVar[bool] = True

    def transform(self, schedule, decay):
        plateau = contrib.reduce_on_plateau(0.5, patience=1)
        return optax.chain(decay, optax.sgd(schedule), plateau)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for name, optimizer in {"polyak": Polyak, "plateau": Plateau}.items():
        monkeypatch.setitem(OPTIMIZERS, name, optimizer)


VALUES = (4.0, 3.0, 3.0, 3.0, 2.0)


def descend(tx, values=VALUES, every=1):
    """Returns the params after updates by these losses."""
    params, state, update = PARAMS, tx.init(PARAMS), jax.jit(tx.update)
    for value in values:
        for part in range(every):
            share = value + (part - (every - 1) / 2)
            updates, state = update(ONES, state, params, value=share)
            params = optax.apply_updates(params, updates)
    return params


def whole(optimizer):
    return {
        "polyak": optax.polyak_sgd(),
        "plateau": optax.chain(
            optax.sgd(0.1), contrib.reduce_on_plateau(0.5, patience=1)
        ),
    }[optimizer]


@pytest.mark.parametrize("average", ["none", "ema(0.9)"])
@pytest.mark.parametrize("optimizer", ["polyak", "plateau"])
def test_an_optimizer_can_need_the_loss(optimizer, average):
    params = descend(create(optimizer, average=average))
    assert_trees_close(params, descend(whole(optimizer)))
    assert not np.allclose(params["conv"]["bias"], PARAMS["conv"]["bias"])


@pytest.mark.parametrize("optimizer", ["polyak", "plateau"])
def test_an_optimizer_of_a_group_can_need_the_loss(optimizer):
    groups = f"group('.*/bias', optimizer='{optimizer}')"
    params = descend(create("sgd", groups=groups))
    labels = jax.tree.map(lambda p: "own" if p.shape == (2,) else "rest", PARAMS)
    parts = {"own": whole(optimizer), "rest": optax.sgd(0.1)}
    assert_trees_close(params, descend(optax.partition(parts, labels)))


@pytest.mark.parametrize(
    ("wrapped", "groups"),
    [
        ("clip({}, 1000.0)", "group('conv/.*', until=0.9)"),
        ("lookahead({}, period=100)", "group('conv/.*', until=0.9)"),
        ("clip(lookahead({}, period=100), 1000.0)", ""),
    ],
)
def test_the_loss_passes_through_wrappers(wrapped, groups):
    params = descend(create(wrapped.format("plateau"), groups=groups))
    assert_trees_close(params, descend(create("plateau", groups=groups)))


def test_the_loss_passes_through_schedule_free():
    tx = create("schedule_free(plateau)")
    expected = contrib.schedule_free(whole("plateau"), 0.1)
    assert_trees_close(descend(tx), descend(expected))


@pytest.mark.parametrize("average", ["none", "ema(0.9)"])
def test_accumulated_steps_have_the_mean_of_their_losses(average):
    tx = create("accumulate(plateau, 2)", average=average)
    assert_trees_close(descend(tx, every=2), descend(create("plateau")))


class Seen(NamedTuple):
    """The extra arguments of the last update."""

    value: jax.Array


@dataclasses.dataclass(frozen=True)
class Recorder(Optimizer):
    """Plain gradient descent that keeps the loss that it is given."""

    decay_in_loss: ClassVar[bool] = True

    def transform(self, schedule, decay):
        def update(updates, state, params=None, *, value, **extra):
            return updates, Seen(value)

        record = optax.GradientTransformationExtraArgs(
            lambda params: Seen(jnp.float32(0)), update
        )
        return optax.chain(decay, optax.sgd(schedule), record)


def test_a_training_step_gives_the_loss_of_which_the_gradients_are(
    dataset, monkeypatch
):
    monkeypatch.setitem(OPTIMIZERS, "recorder", Recorder)
    config = Config(model="small", batch_size=8, optimizer="clip(recorder)")
    program = build_program(config, num_classes=3)
    state = init_state(program, jax.random.key(0), dataset.train.images)
    batch = Batch.from_arrays(dataset.train.images[:8], dataset.train.labels[:8])
    state, losses = jax.jit(train_step, static_argnums=0)(program, state, batch)
    assert optax.tree.get(state.opt_state, "value") == losses["cross_entropy"]
    assert losses["cross_entropy"] < losses["total_loss"]
