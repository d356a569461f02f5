"""Tests that a stopped run resumes to the same bits as an uninterrupted one."""

import dataclasses
import signal

import numpy as np
import pytest
from helpers import Dropping, assert_equal_states, latest, silent

from cifar_jax import Config, Stopped, fit, models
from cifar_jax.devices import compilation

MOMENTUM = {"optimizer": "sgd(momentum=0.9)"}
# The parts of a run's state, one kind per row.
QUICK = {
    "params and their average": {},
    "running statistics": {"model": "batch_norm", **MOMENTUM},
    "dropped values": {"model": "dropping"},
}
OTHERS = {
    "frozen params": {
        "param_groups": "group('hidden/.*', frozen=True)",
        "schedule": "linear",
    },
    "weights of classes": {"loss": "balanced(cross_entropy)"},
    "another loss": {"loss": "squared_error", "learning_rate": 0.01},
    "mixed images": {"distortions": "crop, alternating_flip, mixup(1)"},
    "pasted images": {"distortions": "translate(2), cutout(5), cutmix"},
    "policies": {"distortions": "crop, flip, trivial_augment, choice(mixup, cutmix)"},
    "smooth labels": {"loss": "cross_entropy(label_smoothing=0.1)"},
    "wrappers": {"optimizer": "clip(lookahead(adamw, period=2))"},
    "half an update": {"optimizer": "accumulate(sgd(momentum=0.9), every=2)"},
    "interpolated params": {
        "optimizer": "schedule_free(sgd)",
        "schedule": "constant",
        "average": "none",
    },
    "two passes": {"model": "batch_norm", "optimizer": "sam(sgd(momentum=0.9))"},
    "an optimizer of optax": {
        "optimizer": "optax('prodigy')",
        "learning_rate": 1.0,
        "schedule": "onecycle",
    },
    "noise": {"optimizer": "optax('noisy_sgd', key=1)"},
    "rates by layer": {"layer_decay": 0.5, "schedule": "wsd"},
    "an average of the end": {"average": "swa(start=0.3)"},
    "bfloat16": {"use_fp16": True},
}
ROWS = [
    *(pytest.param(changes, id=kind) for kind, changes in QUICK.items()),
    *(
        pytest.param(changes, id=kind, marks=pytest.mark.slow)
        for kind, changes in OTHERS.items()
    ),
]


@pytest.fixture(autouse=True)
def dropping(monkeypatch):
    monkeypatch.setitem(models.MODELS, "dropping", Dropping)


def config(**changes) -> Config:
    values = {"model": "small", "batch_size": 8, "log_frequency": 1}
    return Config(**values | {"max_steps": 10, "train_dir": None} | changes)


def stop_at_the_fourth_line(line: str) -> None:
    if ": step 3," in line:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("changes", ROWS)
def test_the_end_is_the_same(dataset, tmp_path, monkeypatch, changes):
    settings = config(**changes)
    whole = fit(settings, dataset, silent)
    kept = dataclasses.replace(settings, train_dir=str(tmp_path))
    with pytest.raises(Stopped):
        fit(kept, dataset, stop_at_the_fourth_line)
    stopped = latest(tmp_path / "checkpoints", whole.state)
    monkeypatch.setattr(
        compilation, "compile_lowered", lambda _: pytest.fail("compiled again")
    )
    resumed = fit(kept, dataset, silent)
    assert 0 < resumed.steps < 10
    assert_equal_states(resumed.state, whole.state)
    assert_equal_states(latest(tmp_path / "checkpoints", whole.state), whole.state)
    assert_equal_states(resumed.trained.variables, whole.trained.variables)
    # The rest of the run does change the compared values.
    kernels = [state.params["head"]["kernel"] for state in (stopped, whole.state)]
    assert not np.array_equal(*kernels)


def test_max_steps_may_grow(dataset, tmp_path):
    whole = fit(config(), dataset, silent)
    for max_steps in (4, 10):
        settings = config(train_dir=str(tmp_path), max_steps=max_steps)
        result = fit(settings, dataset, silent)
        assert int(result.state.step) == max_steps
    assert_equal_states(result.state, whole.state)
