import importlib.util

import optuna
import pytest

from cifar_jax import UserError
from cifar_jax.studies import choices


def draws(text, seed):
    study = optuna.create_study(sampler=choices.sampler(text, seed))
    range_ = {"x": optuna.distributions.FloatDistribution(0, 1)}
    return study.ask(range_).params["x"]


@pytest.mark.parametrize("text", ["random", "tpe", "tpe(n_startup_trials=3)"])
def test_draws_depend_on_the_seed(text):
    assert draws(text, 1) == draws(text, 1) != draws(text, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bayes", "bayes is unknown; choose from random, tpe, gp"),
        (
            "tpe(startup=3)",
            "tpe cannot be used: .*keyword argument 'startup'",
        ),
        ("tpe(seed=3)", "seed is not an option, the program sets it"),
        ("tpe, random", "must be exactly one of"),
    ],
)
def test_unknown_samplers_and_options_are_an_error(text, message):
    with pytest.raises(UserError, match=message):
        choices.sampler(text, 0)


def test_what_a_sampler_needs_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="--sampler=gp needs torch: pip install torch"):
        choices.sampler("gp", 0)


def test_pruners_take_options():
    found = choices.pruner("median(n_startup_trials=1, n_warmup_steps=300)")
    assert isinstance(found, optuna.pruners.MedianPruner)
    assert isinstance(choices.pruner("none"), optuna.pruners.NopPruner)
    with pytest.raises(UserError, match="--pruner=best: best is unknown"):
        choices.pruner("best")
