"""Tests the learning rate schedules against their formulas."""

import dataclasses
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_jax import Config, UserError
from cifar_jax.optimization import schedules

GOLDEN = pathlib.Path(__file__).parents[2] / "golden" / "optimizers.json"
RATES = json.loads(GOLDEN.read_text())["rates"]
SETTINGS = dataclasses.replace(
    Config().schedule_settings, learning_rate=0.4, max_steps=100
)


def create(name, **changes):
    return schedules.create(name, dataclasses.replace(SETTINGS, **changes))


def rates(schedule, steps):
    return [float(schedule(jnp.int32(step))) for step in steps]


@pytest.mark.parametrize("jit", [False, True])
def test_staircase_steps_where_the_tutorial_does(jit):
    decay_steps = Config().decay_steps
    assert decay_steps == 136_718  # int(50000 / 128 * 350)
    schedule = create("staircase", learning_rate=0.1, decay_factor=0.1)
    schedule = jax.jit(schedule) if jit else schedule
    for stair in range(8):  # Up to the tutorial's 1,000,000 steps.
        first = stair * decay_steps
        expected = pytest.approx(0.1 * 0.1**stair, rel=1e-6)
        for step in (first, first + 1, first + decay_steps - 1):
            assert float(schedule(jnp.int32(step))) == expected


def test_constant_does_not_fall():
    assert rates(create("constant"), (0, 50, 100)) == pytest.approx([0.4] * 3)


def test_piecewise_drops_at_its_fractions():
    schedule = create("piecewise", drops=(0.1, 0.12), decay_factor=0.1)
    expected = [0.4, 0.4, 0.04, 0.04, 0.004, 0.004]
    assert rates(schedule, (0, 9, 10, 11, 12, 100)) == pytest.approx(expected)


def test_two_drops_at_one_step_both_apply():
    schedule = create("piecewise", drops=(0.1, 0.101, 0.12), decay_factor=0.1)
    assert rates(schedule, (9, 10, 12)) == pytest.approx([0.4, 0.004, 0.0004])


def test_cosine_ends_at_zero():
    expected = [0.4, 0.4 * (1 + math.sqrt(0.5)) / 2, 0.2, 0]
    found = rates(create("cosine"), (0, 25, 50, 100))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_linear_ends_at_zero():
    found = rates(create("linear"), (0, 25, 50, 100))
    np.testing.assert_allclose(found, [0.4, 0.3, 0.2, 0], rtol=1e-6, atol=1e-7)


def test_linear_can_end_early():
    found = rates(create("linear(until=0.5)"), (0, 25, 50, 100))
    np.testing.assert_allclose(found, [0.4, 0.2, 0, 0], rtol=1e-6, atol=1e-7)


def test_triangle_goes_through_its_three_points():
    schedule = create("triangle(start=0.2, peak=0.25, end=0.1)")
    found = rates(schedule, (0, 10, 25, 50, 100))
    expected = [0.08, 0.4 * (0.2 + 0.8 * 0.4), 0.4, 0.4 * 0.7, 0.04]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("max_steps", [1, 2, 3])
@pytest.mark.parametrize(
    "name",
    [
        "triangle(start=0.2, peak=0.9)",
        "onecycle",
        "onecycle(pct_start=0.9)",
        "cosine_restarts(first=0.1, factor=2)",
        "wsd",
        "wsd(warmup=0.5, decay=0.5)",
        "polynomial",
    ],
)
def test_rates_of_a_short_run_are_finite_and_at_most_the_peak(name, max_steps):
    found = rates(create(name, max_steps=max_steps), range(max_steps + 1))
    assert np.isfinite(found).all()
    assert 0 < max(found) <= 0.4 * (1 + 1e-6)
    assert min(found) >= 0


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("name", RATES)
def test_rates_match_pytorch(name, jit):
    schedule = create(name, max_steps=20)
    schedule = jax.jit(schedule) if jit else schedule
    found = rates(schedule, range(20))
    np.testing.assert_allclose(found, RATES[name], rtol=1e-5, atol=1e-7)


def test_polynomial_ends_at_its_fraction():
    found = rates(create("polynomial(power=2, end=0.1)"), (0, 50, 100))
    np.testing.assert_allclose(found, [0.4, 0.04 + 0.36 / 4, 0.04], rtol=1e-6)


def test_restarts_of_growing_periods_end_with_the_run():
    schedule = create("cosine_restarts(first=0.142857143, factor=2)", max_steps=700)
    found = rates(schedule, (0, 50, 99, 100, 200, 299, 300, 500, 699))
    expected = [0.4, 0.2, 0, 0.4, 0.2, 0, 0.4, 0.2, 0]
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize(("shape", "middle"), [("linear", 0.5), ("sqrt", 1 - 0.5**0.5)])
def test_wsd_is_stable_until_it_decays(shape, middle):
    schedule = create(f"wsd(warmup=0.1, decay=0.2, shape='{shape}', end=0.1)")
    found = rates(schedule, (0, 4, 9, 10, 50, 80, 90, 100))
    rising = [0.04, 0.2, 0.4]
    falling = [0.4, 0.4, 0.4, 0.4 * (0.1 + 0.9 * middle), 0.04]
    np.testing.assert_allclose(found, rising + falling, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linear(until=0)", "until=0.0 must be above 0"),
        ("triangle(peak=1)", "peak=1.0 must be below 1"),
        ("triangle(start=2)", "start=2.0 must be at most 1"),
        ("triangle(end=-1)", "end=-1.0 must be at least 0"),
        ("polynomial(power=0)", "power=0.0 must be above 0"),
        ("polynomial(end=2)", "end=2.0 must be at most 1"),
        ("onecycle(pct_start=1)", "pct_start=1.0 must be below 1"),
        ("onecycle(div_factor=0.5)", "div_factor=0.5 must be at least 1"),
        ("onecycle(final_div_factor=0)", "final_div_factor=0.0 must be at least 1"),
        ("onecycle(shape='cos')", "shape='cos' must be one of cosine, linear"),
        ("cosine_restarts(first=0)", "first=0.0 must be at least 0.001"),
        ("cosine_restarts(factor=0.5)", "factor=0.5 must be at least 1"),
        ("wsd(decay=0)", "decay=0.0 must be above 0"),
        ("wsd(warmup=0.5, decay=0.6)", "must add up to at most 1"),
    ],
)
def test_impossible_options_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        create(text)


def test_warm_up_rises_linearly_from_above_zero():
    schedule = create("constant", warmup=0.04)
    assert rates(schedule, range(6)) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_unknown_schedules_are_named():
    with pytest.raises(UserError, match="steps is unknown; choose from constant"):
        create("steps")
