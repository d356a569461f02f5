"""Tests the order of a study's runs, without making any."""

import json
import multiprocessing
import os
import random

import numpy as np
import pytest

from cifar_jax import Config, UserError
from cifar_jax.studies import space
from cifar_jax.studies.planning import Plan
from cifar_jax.studies.side_by_side import Share
from cifar_jax.studies.store import Store

SETTINGS = {"flags": {"max_steps": "8"}}


def plan(folder, vary, sampler="", trials=None, seeds=2, fixed=None, **settings):
    varied = space.read(vary, fixed or {})
    store = Store(folder, SETTINGS | settings, seeds, of_guess=0.1)
    return Plan(
        store=store,
        space=varied,
        fixed=fixed or {},
        config=Config(),
        sampler=sampler,
        pruner="none",
        trials=trials or len(space.grid(varied)),
        seed=3,
        shares=[Share()],
    )


def precision(setting, seed):
    """Returns what a run would reach."""
    rate = float(setting["learning_rate"])
    return round(0.9 - np.log(rate / 0.2) ** 2 / 100 + seed / 1000, 6)


def work(plan, results=precision, stop_after=None):
    """Makes the runs that are left, or some of them."""
    made = []
    while stop_after is None or len(made) < stop_after:
        with plan.store.claimed(plan.ask) as job:
            if job is None:
                break
            found = results(job.setting, job.seed)
            result = found if isinstance(found, dict) else {"precision": found}
            plan.store.finish(job, result)
            made.append((job.number, job.seed))
    return made


def tried(plan):
    return [(one.number, one.setting, one.results) for one in plan.store.trials()]


GRID = ["learning_rate=0.1,0.2", "batch_size=8,16"]
SEARCH = ["learning_rate=log(0.01, 1)", "batch_size=int(8, 64)"]


def test_a_grid_is_tried_setting_by_setting(tmp_path):
    grid = plan(tmp_path, GRID)
    assert work(grid) == [(number, seed) for number in range(4) for seed in range(2)]
    assert [setting for _, setting, _ in tried(grid)] == space.grid(grid.space)
    assert grid.store.is_done()
    assert work(grid) == []
    names = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert names[1] == "001-learning_rate=0.1,batch_size=16"


def test_values_and_seeds_can_be_added(tmp_path):
    work(plan(tmp_path, ["learning_rate=0.1,0.2"]))
    more = plan(tmp_path, ["learning_rate=0.1,0.4,0.2"], seeds=3)
    assert work(more) == [(0, 2), (1, 2), (2, 0), (2, 1), (2, 2)]
    assert more.store.trials()[2].setting == {"learning_rate": "0.4"}


@pytest.mark.parametrize("sampler", ["random", "tpe(n_startup_trials=2)"])
def test_a_search_starts_from_the_flags_and_can_be_extended(tmp_path, sampler):
    few = plan(tmp_path / "a", SEARCH, sampler, trials=3)
    # The batch size of the tutorial is not in its range.
    work(few)
    own = plan(tmp_path / "b", SEARCH[:1], sampler, trials=3)
    work(own)
    assert own.store.trials()[0].setting == {"learning_rate": "0.1"}
    more = plan(tmp_path / "a", SEARCH, sampler, trials=6)
    assert len(work(more)) == 6
    at_once = plan(tmp_path / "c", SEARCH, sampler, trials=6)
    work(at_once)
    assert tried(more) == tried(at_once)
    assert len({tuple(s.items()) for _, s, _ in tried(more)}) == 6


def test_searches_that_start_alike_draw_alike_until_one_of_them_learns(tmp_path):
    fixed = {"model": "wrn(width={width=2})", "learning_rate": "0.3"}
    vary = ["learning_rate=log(0.01, 1)", "width=int(1, 4)"]
    random, tpe = (
        plan(tmp_path / sampler[:3], vary, sampler, trials=6, fixed=fixed)
        for sampler in ("random", "tpe(n_startup_trials=4)")
    )
    work(random)
    work(tpe)
    assert tried(random)[0][1] == {"learning_rate": "0.3", "width": "2"}
    assert tried(random)[:4] == tried(tpe)[:4]
    assert tried(random)[4:] != tried(tpe)[4:]


def test_the_value_of_a_trial_is_the_mean_over_its_seeds(tmp_path):
    search = plan(tmp_path, SEARCH, "tpe", trials=2)

    def results(setting, seed):
        return {"diverged": "at step 3"} if seed else 0.5

    work(search, results)
    values = [trial.value for trial in search.store.study.trials]
    assert values == pytest.approx([0.3, 0.3])


def test_failed_runs_are_retried_and_pruned_ones_are_not(tmp_path):
    def results(setting, seed):
        if setting["learning_rate"] == "0.1":
            return {"failed": "disk full"} if seed else 0.5
        return {"pruned": 8}

    grid = plan(tmp_path, ["learning_rate=0.1,0.2"])
    assert work(grid, results) == [(0, 0), (0, 1), (1, 0)]
    assert grid.store.is_done()
    again = plan(tmp_path, ["learning_rate=0.1,0.2"])
    assert work(again) == []
    again.store.retry_failed()
    assert work(again) == [(0, 1)]
    states = [trial.state.name for trial in again.store.study.trials]
    assert states == ["COMPLETE", "PRUNED"]


def test_other_flags_are_another_study(tmp_path):
    plan(tmp_path, GRID, pruner="none")
    with pytest.raises(UserError, match=r"another study .pruner 'none' there,"):
        plan(tmp_path, GRID, pruner="median")


def _killed(folder, sampler, vary, trials, kill_at):
    """Works on a study, and ends without notice at some call that writes."""
    count = 0

    def write(*arguments, **options):
        nonlocal count
        count += 1
        if count >= kill_at:
            os._exit(9)
        return original(*arguments, **options)

    original = os.fsync
    os.fsync = write
    work(plan(folder, vary, sampler, trials))


@pytest.mark.parametrize(
    ("vary", "sampler", "trials"),
    [
        (SEARCH, "tpe(n_startup_trials=2)", 4),
        pytest.param(SEARCH, "random", 4, marks=pytest.mark.slow),
        pytest.param(GRID, "", None, marks=pytest.mark.slow),
    ],
)
def test_a_study_killed_again_and_again_is_that_of_an_unkilled_one(
    tmp_path, vary, sampler, trials
):
    whole = plan(tmp_path / "whole", vary, sampler, trials)
    work(whole)
    draw = random.Random(0)
    fork = multiprocessing.get_context("spawn")
    for _ in range(4):
        words = (tmp_path / "killed", sampler, vary, trials, draw.randint(1, 12))
        child = fork.Process(target=_killed, args=words)
        child.start()
        child.join()
    killed = plan(tmp_path / "killed", vary, sampler, trials)
    work(killed)
    assert tried(killed) == tried(whole)


def _works(folder, sampler, vary, trials, queue):
    queue.put(work(plan(folder, vary, sampler, trials)))


def test_processes_share_a_study(tmp_path):
    fork = multiprocessing.get_context("spawn")
    queue = fork.Queue()
    words = (tmp_path / "shared", "random", SEARCH, 8, queue)
    children = [fork.Process(target=_works, args=words) for _ in range(2)]
    for child in children:
        child.start()
    made = [run for _ in children for run in queue.get(timeout=120)]
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert sorted(made) == [(number, seed) for number in range(8) for seed in range(2)]
    alone = plan(tmp_path / "alone", SEARCH, "random", 8)
    work(alone)
    shared = plan(tmp_path / "shared", SEARCH, "random", 8)
    assert tried(shared) == tried(alone)


def test_results_are_on_disk(tmp_path):
    work(plan(tmp_path, GRID), stop_after=1)
    [path] = tmp_path.glob("000-*/seed=0/result.json")
    assert json.loads(path.read_text()) == {
        "precision": precision({"learning_rate": "0.1"}, 0)
    }
