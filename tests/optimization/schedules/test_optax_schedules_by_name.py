"""Tests schedules of optax by name: every one that the installed optax has."""

import dataclasses
import inspect

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cifar_jax import Config, UserError
from cifar_jax.optimization import schedules

SETTINGS = dataclasses.replace(
    Config().schedule_settings, learning_rate=0.4, max_steps=100
)
# Options as in a run, and the same schedule by optax itself.
EXAMPLES = {
    "constant_schedule": ("", optax.constant_schedule(0.4)),
    "cosine_decay_schedule": ("alpha=0.1", optax.cosine_decay_schedule(0.4, 100, 0.1)),
    "cosine_onecycle_schedule": (
        "pct_start=0.2",
        optax.cosine_onecycle_schedule(100, 0.4, 0.2),
    ),
    "exponential_decay": (
        "decay_rate=0.5, transition_steps=10, staircase=True",
        optax.exponential_decay(0.4, 10, 0.5, staircase=True),
    ),
    "linear_onecycle_schedule": ("", optax.linear_onecycle_schedule(100, 0.4)),
    "linear_schedule": (
        "end_value=0.1, transition_begin=50",
        optax.linear_schedule(0.4, 0.1, 100, 50),
    ),
    "piecewise_constant_schedule": (
        "boundaries_and_scales={20: 0.5, 70: 0.1}",
        optax.piecewise_constant_schedule(0.4, {20: 0.5, 70: 0.1}),
    ),
    "piecewise_interpolate_schedule": (
        "interpolate_type='linear', boundaries_and_scales={50: 0.5}",
        optax.piecewise_interpolate_schedule("linear", 0.4, {50: 0.5}),
    ),
    "polynomial_schedule": (
        "end_value=0, power=3",
        optax.polynomial_schedule(0.4, 0, 3, 100),
    ),
    "warmup_constant_schedule": (
        "init_value=0, warmup_steps=10",
        optax.warmup_constant_schedule(0, 0.4, 10),
    ),
    "warmup_cosine_decay_schedule": (
        "init_value=0.01, warmup_steps=10, end_value=0.001",
        optax.warmup_cosine_decay_schedule(0.01, 0.4, 10, 100, 0.001),
    ),
    "warmup_exponential_decay_schedule": (
        "init_value=0, warmup_steps=10, decay_rate=0.1",
        optax.warmup_exponential_decay_schedule(0, 0.4, 10, 100, 0.1),
    ),
}
REFUSED = {"join_schedules", "sgdr_schedule"}
REFUSED |= {"inject_hyperparams", "inject_stateful_hyperparams"}
NAMES = sorted(
    name for name, value in vars(optax.schedules).items() if inspect.isfunction(value)
)


@pytest.mark.parametrize("name", NAMES)
def test_every_schedule_is_that_of_optax_or_refused(name):
    if name in REFUSED:
        with pytest.raises(UserError, match=f"optax has no schedule {name}"):
            schedules.create(f"optax('{name}')", SETTINGS)
        return
    options, expected = EXAMPLES[name]
    text = f"optax('{name}', {options})"
    schedule = schedules.create(text, SETTINGS)
    steps = [jnp.int32(step) for step in (0, 5, 10, 20, 55, 99, 100)]
    found = [float(schedule(step)) for step in steps]
    np.testing.assert_allclose(found, [expected(step) for step in steps], rtol=1e-6)
    assert Config(schedule=text).schedule == text.replace(", )", ")")


def test_it_can_be_warmed_up():
    settings = dataclasses.replace(SETTINGS, warmup=0.02)
    schedule = schedules.create("optax('constant_schedule')", settings)
    assert float(schedule(0)) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("optax", "missing a required argument: 'name'"),
        ("optax('cosine_decay')", r"\(did you mean cosine_decay_schedule\?\)"),
        ("optax('adam')", "optax has no schedule adam; choose from constant_schedule"),
        ("optax('exponential_decay')", "needs the option decay_rate"),
        ("optax('linear_schedule', end=0)", "has no option end; its options: end_va"),
        ("optax('linear_schedule', end_value=-1)", "end_value=-1 must be at least 0"),
        (
            "optax('linear_schedule', end_value=0, init_value=1)",
            "init_value is not an option .* it is set by --learning_rate",
        ),
        (
            "optax('warmup_constant_schedule', init_value=0, peak_value=1)",
            "peak_value is not an option .* it is set by --learning_rate",
        ),
        (
            "optax('exponential_decay', decay_rate=0.1, transition_steps=0)",
            "transition_steps=0 must be at least 1",
        ),
        (
            "optax('piecewise_constant_schedule', boundaries_and_scales={0.5: 0.1})",
            "must have steps, integers, as keys",
        ),
        (
            "optax('piecewise_interpolate_schedule', interpolate_type='cubic')",
            "optax refuses this: ",
        ),
        ("optax('cosine_decay_schedule', alpha='x')", "alpha='x' must be a number"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(schedule, message):
    with pytest.raises(UserError, match=message) as caught:
        Config(schedule=schedule)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("--schedule=")


def test_a_run_must_have_room_for_the_warm_up():
    text = "optax('warmup_cosine_decay_schedule', init_value=0, warmup_steps=200)"
    with pytest.raises(UserError, match=r"a run of 100 steps: .*decay_steps"):
        schedules.create(text, SETTINGS)
