"""Tests the hyperparameter search, and the jobs that processes share."""

import csv
import json
import multiprocessing
import pathlib
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from helpers import environment
from hypothesis import given
from hypothesis import strategies as st
from jax.tree_util import DictKey
from run_experiments import ROOT, call_experiment

from cifar_jax import RunError, UserError, load_data, models
from cifar_jax.errors import DivergedError
from cifar_jax.models.cuda_convnet import CudaConvnet18pct
from cifar_jax.training.program import build
from experiments.accuracy import bayesian_search, search_space
from experiments.accuracy.search_space import PUBLISHED, SPACE
from experiments.harness.jobs import Job, Study

bayes_opt = pytest.importorskip("bayes_opt")


@given(st.floats(0, 1), st.sampled_from(sorted(SPACE)))
def test_values_are_in_their_range(place, name):
    values = SPACE[name]
    value = values.value(place)
    assert values.low * (1 - 1e-9) <= value <= values.high * (1 + 1e-9)
    assert values.low <= PUBLISHED[name] <= values.high
    if values.is_integer:
        assert value == int(value)


def test_places_are_spread_as_the_range_says():
    assert SPACE["learning_rate"].value(0.5) == pytest.approx(1e-3)
    assert SPACE["lrn_power"].value(0.5) == pytest.approx(0.75)
    radii = [SPACE["lrn_radius"].value(place) for place in np.linspace(0, 1, 11)]
    assert radii == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4]


@pytest.fixture
def searched(monkeypatch):
    """Removes the network registered by settings after the test."""
    monkeypatch.setitem(models.MODELS, "searched", CudaConvnet18pct)


@pytest.mark.usefixtures("searched")
def test_the_published_setting_is_the_recipe():
    searched = search_space.config(PUBLISHED, 46_875)
    published = search_space.Config(recipe="cuda_convnet_18pct")
    ours, theirs = build(searched, 10), build(published, 10)
    assert searched.max_steps == published.max_steps
    assert searched.learning_rate == published.learning_rate
    for layer in theirs.model.weight_decays:
        path = (DictKey(layer), DictKey("kernel"))
        decay = ours.weight_decay.rate(path)
        assert decay == pytest.approx(theirs.weight_decay.rate(path))
    x = jnp.asarray(np.random.default_rng(0).uniform(0, 9, (5, 5, 4, 2)), jnp.float32)
    ours, theirs = (network.norm(x) for network in (ours.model, CudaConvnet18pct()))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.usefixtures("searched")
def test_a_setting_reaches_the_training():
    setting = dict(PUBLISHED) | {
        "learning_rate": 0.02,
        "weight_decay_conv2": 0.3,
        "lrn_power": 0.0,
        "length": 0.5,
    }
    config = search_space.config(setting, 1000)
    assert (config.max_steps, config.learning_rate) == (500, 0.02)
    network = models.create(config.model)
    assert network.weight_decays["conv2"] == 0.3
    x = jnp.ones((3, 3, 2, 1))
    np.testing.assert_array_equal(network.norm(x), x)


@pytest.fixture
def search_flags():
    """Defines the experiment's flags, with 24 trials, of which 8 are random."""
    before = set(flags.FLAGS)
    bayesian_search.define_flags()
    flags.FLAGS(["test"])
    yield flags.FLAGS
    for flag in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, flag)


def finished_trial(method, number, point):
    """Returns a trial whose accuracy decreases with the distance from a point."""
    distance = sum((place - 0.3) ** 2 for place in point.values())
    task = {"method": method, "number": number, "setting": {}, "point": dict(point)}
    return Job(f"{method}-{number}", task, {"validation_accuracy": 0.8 - distance})


@pytest.mark.slow
def test_the_process_finds_what_chance_does_not(search_flags):
    known = [finished_trial("published", 0, dict.fromkeys(SPACE, 1.0))]
    while (job := bayesian_search.plan(known)) and "final" not in job.task:
        known.append(finished_trial(*map(job.task.get, ("method", "number", "point"))))
    process, random = (
        bayesian_search.trials(known, method, 8)
        for method in (bayesian_search.PROCESS, bayesian_search.RANDOM)
    )
    assert len(process) == len(random) == 24
    assert process[:8] == random[:8]
    gain = 0.8 - np.array(
        [
            bayesian_search.accuracy(job)
            for job in (bayesian_search.best(process), bayesian_search.best(random))
        ]
    )
    assert gain[0] < 0.5 * gain[1]


def test_the_next_trial_follows_from_the_others_and_from_those_running(search_flags):
    known = [
        finished_trial("random", i, bayesian_search.random_point(i)) for i in range(4)
    ]
    first = bayesian_search.expected_improvement(known, 4)
    assert bayesian_search.expected_improvement(known, 4) == first
    assert bayesian_search.expected_improvement(known, 5) != first
    running = Job("running", {"method": "random", "number": 4, "point": first})
    other = bayesian_search.expected_improvement([*known, running], 4)
    assert max(abs(first[name] - other[name]) for name in SPACE) > 0.01


@pytest.mark.usefixtures("search_flags", "searched")
def test_only_divergence_counts_as_chance(tmp_path, monkeypatch):
    job = Job("trial", {"method": "random", "setting": dict(PUBLISHED)})

    def run(error):
        def fit(*_):
            raise error

        monkeypatch.setattr(bayesian_search, "fit", fit)
        flags.FLAGS.validation_size = 97
        return bayesian_search.run(load_data("digits"), job, tmp_path)

    result = run(DivergedError("the loss is not finite"))
    assert result["validation_accuracy"] == 0.1
    assert "not finite" in (tmp_path / "log.txt").read_text()
    with pytest.raises(RunError, match="the disk is full"):
        run(RunError("the disk is full"))


def two_jobs(known):
    return Job(f"job-{len(known)}", {"number": len(known)}) if len(known) < 4 else None


def square(job, folder):
    with (folder / "runs.txt").open("a") as file:
        file.write("run\n")
    time.sleep(0.05)
    return {"square": job.task["number"] ** 2}


def work(directory):
    study = Study(pathlib.Path(directory), {"size": 4})
    return study.work(two_jobs, square, lambda last, known: None)


@pytest.mark.slow
def test_processes_share_the_jobs(tmp_path):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.map(work, [tmp_path] * 3)
    assert found[0] == found[1] == found[2]
    assert [job.result for job in found[0]] == [{"square": i**2} for i in range(4)]
    for job in found[0]:
        assert (tmp_path / job.name / "runs.txt").read_text() == "run\n"


def test_a_job_that_was_interrupted_is_taken_up_again(tmp_path):
    def interrupted(job, folder):
        if job.task["number"] == 2 and not (folder / "runs.txt").exists():
            square(job, folder)
            raise KeyboardInterrupt
        return square(job, folder)

    study = Study(tmp_path, {"size": 4})
    with pytest.raises(KeyboardInterrupt):
        study.work(two_jobs, interrupted, lambda last, known: None)
    assert [job.result is None for job in study.jobs()] == [False, False, True]
    finished = work(tmp_path)
    assert [job.result["square"] for job in finished] == [0, 1, 4, 9]
    assert (tmp_path / "job-2" / "runs.txt").read_text() == "run\nrun\n"
    assert (tmp_path / "job-1" / "runs.txt").read_text() == "run\n"


def test_a_job_with_a_result_to_be_retried_is_run_again(tmp_path):
    work(tmp_path)
    study = Study(tmp_path, {"size": 4})
    study.reopen(lambda result: result["square"] == 4)
    assert [job.result is None for job in study.jobs()] == [False, False, True, False]
    assert all(job.result is not None for job in work(tmp_path))
    assert (tmp_path / "job-2" / "runs.txt").read_text() == "run\nrun\n"
    assert (tmp_path / "job-3" / "runs.txt").read_text() == "run\n"


def test_another_study_in_the_directory_is_an_error(tmp_path):
    work(tmp_path)
    with pytest.raises(UserError, match="different study, with size 4; pass the same"):
        Study(tmp_path, {"size": 5})


@pytest.mark.slow
@pytest.mark.usefixtures("searched")
def test_the_experiment(tmp_path):
    arguments = [
        *("--quick", "--dataset=digits", f"--out_dir={tmp_path / 'out'}"),
        f"--results_dir={tmp_path / 'results'}",
    ]
    command = [sys.executable, "-m", "experiments.accuracy.bayesian_search", *arguments]
    both = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    record = json.loads((tmp_path / "results" / "bayesian_search.json").read_text())
    names = [row["job"] for row in record["jobs"]]
    assert names == [
        *("Gaussian_process-002", "final-0-Gaussian_process", "final-0-published"),
        *("final-0-random", "published-000", "random-000", "random-001", "random-002"),
    ]
    with (tmp_path / "results" / "bayesian_search.csv").open() as file:
        assert [row["job"] for row in csv.DictReader(file)] == names
    assert (tmp_path / "results" / "bayesian_search.png").stat().st_size > 5000
    # Everything is finished, so the command only prints the result again.
    again = call_experiment("accuracy.bayesian_search", *arguments)
    table = again[again.index("| setting ") :]
    assert table.count("(n 1)") == 3
    assert all(output.endswith(table) for output in outputs)
