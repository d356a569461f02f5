"""Trains with several seeds side by side on eight devices, for test_fit_many.py.

    python tests/fit_many_on_devices.py CASE FOLDER

It prints "done" if everything is as it should be.
"""

import dataclasses
import os
import pathlib
import signal
import sys
import threading

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import pytest
from absl import logging as absl_logging
from helpers import SmallBatchNorm, assert_equal_states, make_dataset, silent

from cifar_jax import (
    Config,
    Hook,
    RunError,
    Stopped,
    evaluate,
    fit,
    fit_many,
    predict_logits,
)
from cifar_jax.runs import checkpoints

DATASET, MODEL = make_dataset(), SmallBatchNorm()
SECONDS = 200  # that runs wait for each other
FOLDER = pathlib.Path(sys.argv[2])
CONFIG = Config(
    num_devices=2,
    max_steps=10,
    batch_size=8,
    eval_frequency=5,
    save_frequency=2,
    summary_frequency=3,
    train_dir=str(FOLDER),
)


class Meeting(Hook):
    """Waits at step 4 until as many runs as there is room for are there."""

    every = 4

    def __init__(self, barrier: threading.Barrier):
        self._barrier = barrier
        self.devices: set[jax.Device] = set()

    def __call__(self, now):
        if now.step == 4:
            self._barrier.wait(SECONDS)
        predict_logits(now.to_trained(), DATASET.test.images)
        self.devices = now.state.step.devices()


def results() -> None:
    """Eight runs, four at a time on two devices each, are those of fit."""
    barrier, meetings = threading.Barrier(4), []

    def hooks(seed):
        meetings.append(Meeting(barrier))
        return meetings[-1:]

    found = fit_many(CONFIG, DATASET, range(8), silent, hooks, MODEL)
    used = [frozenset(meeting.devices) for meeting in meetings]
    assert {len(devices) for devices in used} == {2}
    assert len(set(used)) == 4
    for seed, result in enumerate(found):
        alone = dataclasses.replace(CONFIG, seed=seed, train_dir=None)
        expected = fit(alone, DATASET, silent, model=MODEL)
        assert_equal_states(result.state, expected.state)
        assert result.precision == expected.precision
        assert evaluate(result.trained, DATASET.test) == expected.precision
        saved = checkpoints.steps(FOLDER / f"seed={seed}" / "checkpoints")
        assert saved == [2, 4, 6, 8, 10]
    again = fit_many(CONFIG, DATASET, range(8), silent, model=MODEL)
    assert [result.steps for result in again] == [0] * 8


class Failing(Meeting):
    def __call__(self, now):
        super().__call__(now)
        raise RunError("as expected")


def failure() -> None:
    """If a run fails, those in progress are saved, and no other is started."""
    barrier = threading.Barrier(4)
    endless = dataclasses.replace(CONFIG, max_steps=10**6)

    def hooks(seed):
        return [Failing(barrier) if seed == 2 else Meeting(barrier)]

    with pytest.raises(RunError, match="as expected"):
        fit_many(endless, DATASET, range(8), silent, hooks, MODEL)
    check_saved()


def interruption() -> None:
    """Ctrl-C stops and saves all runs; the same call continues."""
    barrier = threading.Barrier(4, lambda: os.kill(os.getpid(), signal.SIGINT))
    endless = dataclasses.replace(CONFIG, max_steps=10**6)

    def hooks(seed):
        return [Meeting(barrier)]

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped, match=r"stopped by SIGINT before step .* saved"):
        fit_many(endless, DATASET, range(8), silent, hooks, MODEL)
    assert signal.getsignal(signal.SIGINT) is before
    steps = check_saved()
    more = dataclasses.replace(CONFIG, max_steps=max(steps) + 2)
    found = fit_many(more, DATASET, range(4), silent, model=MODEL)
    assert [result.steps for result in found] == [max(steps) + 2 - s for s in steps]


def check_saved() -> list[int]:
    """Returns the steps at which the first four runs were saved; others don't exist."""
    folders = [FOLDER / f"seed={seed}" for seed in range(4)]
    assert sorted(FOLDER.iterdir()) == folders
    return [checkpoints.steps(folder / "checkpoints")[-1] for folder in folders]


verbosity = absl_logging.get_verbosity()
{"results": results, "failure": failure, "signal": interruption}[sys.argv[1]]()
assert absl_logging.get_verbosity() == verbosity
print("done")
