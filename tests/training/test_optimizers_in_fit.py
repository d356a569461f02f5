"""Tests what wrappers and averages mean for a whole run."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import assert_equal_states, silent

from cifar_jax import Config, build_program, fit
from cifar_jax.optimization.averages import averaged_params
from cifar_jax.writers import jsonl

FIXED = {"distortions": "center_crop", "train_dir": None, "log_frequency": 100}


def assert_close(found, expected, **tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **tolerance), found, expected
    )


def pair(network: str, **changes):
    """Returns configs of batches of 16, and of batches of 4 that are accumulated."""
    whole = Config(model=network, batch_size=16, max_steps=8, **FIXED | changes)
    parts = dataclasses.replace(
        whole,
        batch_size=4,
        max_steps=32,
        optimizer=f"accumulate({whole.optimizer}, 4)",
    )
    return whole, parts


@pytest.mark.slow
def test_four_micro_batches_are_a_batch(dataset):
    whole, parts = pair(
        "small",
        optimizer="clip(lookahead(sgd(momentum=0.9), period=3), global_norm=0.5)",
        schedule="triangle",
        warmup=0.3,
        param_groups="group('head/bias', until=0.5, learning_rate=2)",
        average="ema(0.9, ramp=True)",
    )
    a, b = (fit(config, dataset, silent).state for config in (whole, parts))
    assert (int(a.step), int(b.step)) == (8, 32)
    assert_close(b.params, a.params, rtol=1e-5, atol=1e-6)
    averages = averaged_params(b.opt_state), averaged_params(a.opt_state)
    assert_close(*averages, rtol=1e-5, atol=1e-6)
    one, four = (build_program(config, 3) for config in (whole, parts))
    for step in range(32):
        assert four.learning_rate(step) == one.learning_rate(step // 4)
        end = four.at(step)[1]
        assert (end and end // 4) == one.at(step // 4)[1]


def test_averages_of_statistics_count_updates(dataset):
    _, parts = pair("batch_norm", average="ema(0.5)")
    states = [
        fit(dataclasses.replace(parts, max_steps=steps), dataset, silent).state
        for steps in (4, 8)
    ]
    old, new = states
    expected = jax.tree.map(
        lambda average, new: 0.5 * average + 0.5 * new,
        old.averaged_batch_stats,
        new.batch_stats,
    )
    assert_close(new.averaged_batch_stats, expected, rtol=1e-5)


@pytest.mark.parametrize("groups", ["", "group('head/.*', learning_rate=0.5)"])
def test_clipping_limits_the_norm_of_all_updates(dataset, tmp_path, groups):
    config = Config(
        model="small",
        optimizer="clip(sgd, global_norm=0.01)",
        learning_rate=1.0,
        weight_decay=0.0,
        schedule="constant",
        metrics="grad_norm, update_norm",
        param_groups=groups,
        max_steps=3,
        batch_size=16,
        summary_frequency=1,
        train_dir=str(tmp_path),
    )
    fit(config, dataset, silent)
    for record in jsonl.read_training(tmp_path / "train.jsonl"):
        assert record["learning_rate"] == 1.0
        assert record["grad_norm"] > 0.1
        if groups:
            assert 0.005 <= record["update_norm"] < 0.01
        else:
            assert record["update_norm"] == pytest.approx(0.01, rel=1e-4)


def test_schedule_free_is_evaluated_at_its_average(dataset):
    config = Config(
        model="small",
        optimizer="schedule_free(sgd)",
        schedule="constant",
        average="none",
        max_steps=6,
        batch_size=16,
        **FIXED,
    )
    result = fit(config, dataset, silent)
    program = build_program(config, 3)
    at = program.optimizer.eval_params(result.state.opt_state, result.state.params)
    assert_equal_states(result.trained.variables["params"], at)
    kernel = result.state.params["head"]["kernel"]
    assert not np.array_equal(at["head"]["kernel"], kernel)


@pytest.mark.parametrize("average", ["swa(start=0.5)", "none"])
def test_other_averages_train_the_same_params(dataset, average):
    config = Config(model="small", max_steps=6, batch_size=16, **FIXED)
    usual = fit(config, dataset, silent)
    other = fit(dataclasses.replace(config, average=average), dataset, silent)
    assert_equal_states(other.state.params, usual.state.params)
    is_raw = average == "none"
    same = np.array_equal(
        other.trained.variables["params"]["head"]["kernel"],
        other.state.params["head"]["kernel"],
    )
    assert same == is_raw
