"""Tests that states and weights can be changed, saved as runs, and trained further."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_equal_states, make_dataset, silent

from cifar_jax import (
    Config,
    UserError,
    evaluate,
    fit,
    init_state,
    load_state,
    load_trained,
    read_run,
    save_run,
)
from cifar_jax.training.saved import program_of


def config(train_dir, **changes):
    values = {"model": "batch_norm", "max_steps": 3, "batch_size": 8}
    return Config(
        train_dir=None if train_dir is None else str(train_dir), **values | changes
    )


@pytest.fixture(scope="module")
def source(dataset, make_once):
    """Returns a run with checkpoints of three steps."""

    def make(folder):
        settings = config(folder / "run", save_frequency=1, keep="all")
        fit(settings, dataset, silent)

    return read_run(make_once("to_change", make) / "run")


def test_a_saved_state_goes_on_as_its_run_would(source, dataset, tmp_path):
    state = load_state(source, 2)
    assert int(state.step) == 2
    run = save_run(config(tmp_path / "copy"), dataset, state)
    assert_equal_states(load_state(run), state)
    lines = []
    resumed = fit(config(tmp_path / "copy"), dataset, lines.append)
    assert lines[0] == f"resumed from step 2 of {tmp_path / 'copy'}"
    assert resumed.steps == 1
    assert_equal_states(resumed.state, load_state(source, 3))


def test_a_saved_state_has_the_seed_of_its_config(source, dataset, tmp_path):
    state = load_state(source, 2)
    ends = [
        fit(child, dataset, silent).state
        for seed in (0, 1)
        if save_run(child := config(tmp_path / str(seed), seed=seed), dataset, state)
    ]
    assert_equal_states(ends[0], load_state(source, 3))
    assert jax.random.key_data(ends[1].key)[1] == 1
    first, second = (jax.tree.leaves(end.params)[0] for end in ends)
    assert not np.array_equal(first, second)


def test_the_result_of_a_run_can_be_saved(dataset, tmp_path):
    end = fit(config(None), dataset, silent).state
    run = save_run(config(tmp_path / "saved"), dataset, end)
    assert_equal_states(load_state(run), end)


def test_saved_weights_are_evaluated_and_trained_as_they_are(source, dataset, tmp_path):
    network = load_trained(source)
    halved = jax.tree.map(lambda x: x / 2, network.variables)
    run = save_run(config(tmp_path / "halved"), dataset, halved)
    found = load_trained(read_run(run.path))
    assert found.step == 0
    for one, other in zip(
        *map(jax.tree.leaves, (found.variables, halved)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    changed = dataclasses.replace(network, variables=halved)
    assert evaluate(found, dataset.test) == evaluate(changed, dataset.test)
    assert_equal_states(
        fit(config(run.path), dataset, silent).state,
        fit(config(None), dataset, silent, initial=halved).state,
    )


def test_a_network_of_ones_own(source, dataset, tmp_path):
    model = program_of(source).model
    other = type(model)(num_classes=model.num_classes, dtype=model.dtype, ops=model.ops)
    settings = config(tmp_path / "run")
    run = save_run(settings, dataset, load_trained(source).variables, model=other)
    with pytest.raises(UserError, match="pass the network that fit"):
        load_state(run)
    assert int(load_state(run, model=other).step) == 0


def test_an_order_of_ones_own(source, dataset, tmp_path):
    def order(step):
        return (step + np.arange(8)) % len(dataset.train)

    save_run(config(tmp_path), dataset, load_state(source, 2), order=order)
    with pytest.raises(UserError, match=r"order: .* there, fit\(\)'s own now"):
        fit(config(tmp_path), dataset, silent)
    assert fit(config(tmp_path), dataset, silent, order=order).steps == 1


def test_a_run_records_what_it_started_from(source, dataset, tmp_path):
    weights = load_trained(source).variables
    settings = config(tmp_path / "run", max_steps=1)
    fit(settings, dataset, silent, initial=weights)

    def recorded():
        return json.loads((tmp_path / "run" / "config.json").read_text())["initial"]

    first = recorded()
    assert first.startswith("SHA-256 ")
    fit(dataclasses.replace(settings, max_steps=2), dataset, silent)
    assert recorded() == first
    fit(dataclasses.replace(settings, max_steps=3), dataset, silent, initial=weights)
    assert recorded() == first
    others = jax.tree.map(jnp.zeros_like, weights)
    with pytest.raises(UserError, match=f"initial: {first} there, SHA-256 .* now"):
        fit(settings, dataset, silent, initial=others)
    assert read_run(source.path).given.initial is None
    with pytest.raises(UserError, match=r"initial: none there, SHA-256 .* now"):
        fit(config(source.path), dataset, silent, initial=others)


def not_finite(state):
    return dataclasses.replace(
        state, params=jax.tree.map(lambda x: x / 0, state.params)
    )


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("start", "changes", "message"),
    [
        (
            lambda state: state,
            {"model": "small"},
            "start is not a state of this config",
        ),
        (
            lambda state: state,
            {"optimizer": "adamw"},
            "not a state of this config: .* is",
        ),
        (
            lambda state: state,
            {"max_steps": 2},
            "max_steps=2 is below the step of start",
        ),
        (lambda state: state, {"train_dir": None}, "needs a config with a train_dir"),
        (not_finite, {}, "start has non-finite values in params/"),
        (lambda state: {"params": {}}, {}, "start has no .* which SmallBatchNorm has"),
        (lambda state: state.params, {}, "start has no "),
        (lambda state: 3, {}, "start must be arrays by collection and layer"),
        (lambda state: [state], {}, "start must be arrays by collection and layer"),
    ],
)
def test_what_cannot_be_saved(source, dataset, tmp_path, start, changes, message):
    settings = dataclasses.replace(config(tmp_path / "run"), **changes)
    with pytest.raises(UserError, match=message):
        save_run(settings, dataset, start(load_state(source)))
    assert not (tmp_path / "run").exists()


def test_no_run_is_overwritten(source, dataset):
    before = sorted(source.path.rglob("*"))
    with pytest.raises(UserError, match="holds a run; choose another train_dir"):
        save_run(config(source.path), dataset, load_state(source))
    assert sorted(source.path.rglob("*")) == before


def test_states_of_other_data_are_refused_by_shape(source, tmp_path):
    four = make_dataset()
    names = ("a", "b", "c", "d")
    other = dataclasses.replace(four, class_names=names)
    with pytest.raises(UserError, match="start is not a state of this config"):
        save_run(config(tmp_path / "run"), other, load_state(source))
    program = program_of(source)
    state = init_state(program, jax.random.key(0), four.train.images)
    assert int(state.step) == 0
