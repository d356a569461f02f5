"""Tests that runs with many seeds are those of fit, compiled once."""

import os
import pathlib
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from helpers import SmallNetwork, assert_equal_states, files_of, silent

from cifar_jax import (
    Config,
    Hook,
    RunError,
    Stopped,
    UserError,
    evaluate,
    fit,
    fit_many,
    read_run,
)
from cifar_jax.runs import checkpoints

COMPILATIONS: list[float] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: (
        COMPILATIONS.append(seconds) if "backend_compile" in name else None
    )
)


def config(train_dir=None, **changes) -> Config:
    train_dir = None if train_dir is None else str(train_dir)
    values = {"max_steps": 7, "batch_size": 8, "log_frequency": 2, "model": "small"}
    return Config(train_dir=train_dir, **values | changes)


def test_each_result_is_the_one_of_fit_in_the_order_of_the_seeds(dataset):
    seeds = [3, 0, 2**32 - 1]
    found = fit_many(config(eval_frequency=5), dataset, seeds, silent)
    assert len(found) == 3
    for seed, result in zip(seeds, found, strict=True):
        expected = fit(config(eval_frequency=5, seed=seed), dataset, silent)
        assert_equal_states(result.state, expected.state)
        assert (result.steps, result.precision) == (7, expected.precision)
        assert evaluate(result.trained, dataset.test) == expected.precision
    assert len({x.state.params["head"]["kernel"].tobytes() for x in found}) == 3


def test_everything_is_compiled_for_the_first_seed(dataset, tmp_path):
    compiled = []

    def hooks(seed):
        compiled.append(len(COMPILATIONS))
        return []

    # Settings that no other test has compiled.
    own = {"learning_rate": 0.0123, "eval_frequency": 3, "summary_frequency": 2}
    fit_many(config(tmp_path, **own), dataset, range(3), silent, hooks)
    assert compiled[0] < compiled[1]
    assert compiled[1] == compiled[2] == len(COMPILATIONS)


def test_ctrl_c_ends_all_and_the_same_call_continues(dataset, tmp_path):
    def log(line: str) -> None:
        lines.append(line)
        if line.startswith("seed 1: ") and ": step 2, loss" in line:
            signal.raise_signal(signal.SIGINT)

    lines: list[str] = []
    with pytest.raises(Stopped, match=r"saved \S+/seed=1/checkpoints/\d"):
        fit_many(config(tmp_path), dataset, range(3), log)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed=0", "seed=1"]
    (stopped,) = checkpoints.steps(tmp_path / "seed=1" / "checkpoints")
    assert 2 < stopped < 7
    before = files_of(tmp_path / "seed=0")
    lines = []
    found = fit_many(config(tmp_path), dataset, range(3), lines.append)
    assert [result.steps for result in found] == [0, 7 - stopped, 7]
    assert files_of(tmp_path / "seed=0") == before
    assert "seed 0: already at step 7, which is --max_steps: nothing to do" in lines
    for seed, result in enumerate(found):
        expected = fit(config(seed=seed), dataset, silent)
        assert_equal_states(result.state, expected.state)
        assert read_run(tmp_path / f"seed={seed}").config.seed == seed


def test_a_failed_run_ends_all(dataset, tmp_path):
    with pytest.raises(RunError, match="diverged"):
        fit_many(config(tmp_path, learning_rate=1e20), dataset, range(2), silent)
    assert [path.name for path in tmp_path.iterdir()] == ["seed=0"]


class Recorder(Hook):
    every = 3

    def __init__(self, seen: list[int]):
        self.seen = seen

    def __call__(self, now):
        self.seen.append(now.step)


def test_everything_that_fit_takes_is_passed_on(dataset):
    given = {
        "model": SmallNetwork(),
        "order": lambda step: np.arange(8) + step,
        "initial": fit(config(), dataset, silent).trained.variables,
    }
    seen: dict[int, list[int]] = {}

    def hooks(seed):
        return [Recorder(seen.setdefault(seed, []))]

    found = fit_many(config(), dataset, [4, 5], silent, hooks, **given)
    assert seen == {4: [3, 6], 5: [3, 6]}
    for seed, result in zip((4, 5), found, strict=True):
        expected = fit(config(seed=seed), dataset, silent, **given)
        assert_equal_states(result.state, expected.state)


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([], "seeds is empty"),
        ([0, 1, 0], "seeds contains 0 more than once"),
        ([0, 1.5], "seeds=1.5 must be an integer"),
        ([True], "seeds=True must be an integer"),
        ("01", "seeds='0' must be an integer"),
        ([-1], "seeds=-1 must be at least 0"),
        ([2**32], "seed=4294967296 must be at most 4294967295"),
        (5, r"seeds=5 must be a list, such as range\(5\)"),
    ],
)
def test_unusable_seeds_are_refused(dataset, tmp_path, seeds, message):
    with pytest.raises(UserError, match=message) as caught:
        fit_many(config(tmp_path / "runs"), dataset, seeds, silent)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.wrong_types
def test_hooks_depend_on_the_seed(dataset):
    with pytest.raises(UserError, match=r"such as lambda seed: \[MyHook\(\)\]"):
        fit_many(config(), dataset, [0], silent, hooks=[Recorder([])])
    with pytest.raises(UserError, match=r"hooks must be a list .*, not None"):
        fit_many(config(), dataset, [0], silent, hooks=lambda seed: None)


def test_the_folder_of_a_single_run_is_refused(dataset, finished_run):
    before = files_of(finished_run)
    with pytest.raises(UserError, match="holds a single run; choose another one"):
        fit_many(config(finished_run), dataset, range(2), silent)
    assert files_of(finished_run) == before


@pytest.mark.slow
@pytest.mark.parametrize("case", ["results", "failure", "signal"])
def test_runs_on_several_devices_are_made_side_by_side(tmp_path, case):
    done = subprocess.run(
        [sys.executable, "fit_many_on_devices.py", case, str(tmp_path)],
        cwd=pathlib.Path(__file__).parents[1],
        env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "True"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("done\n")
