"""Does Bayesian search find better hyperparameters than people and than chance?

    python -m experiments.accuracy.bayesian_search --data_dir=DIR

Snoek, Larochelle and Adams, "Practical Bayesian optimization of machine learning
algorithms", 2012, reduced the test error of cuda-convnet's network from 18% to 15% this
way. Here, a Gaussian process with expected improvement and, for comparison, random
search choose nine hyperparameters (search_space.py) by accuracy on held-out training
images. At the end, the published setting and the best one from each search are trained
on all training images and evaluated once on the test images.

Running the command again resumes interrupted trials, and several processes can run the
same command together. Trials are in OUT_DIR/trials.csv; JSON, CSV and the plot are
written to --results_dir at the end. The full experiment, with 120 epochs per trial, is

    python -m experiments.accuracy.bayesian_search --data_dir=DIR \
        --max_steps=46875 --trials=50

It needs bayesian-optimization, which `pip install 'cifar-jax[search]'` installs.
"""

import functools
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import flags

from cifar_jax import Dataset, command, evaluate, extras, fit, load_data
from cifar_jax.data.dataset import hold_out_validation
from cifar_jax.errors import DivergedError
from experiments.accuracy import search_space
from experiments.accuracy.bayesian_search_report import (
    METHODS,
    PROCESS,
    PUBLISHED,
    RANDOM,
    accuracy,
    best,
    draw,
    rows,
    summary,
    trials,
)
from experiments.accuracy.search_space import SPACE, Point
from experiments.harness import common, machine, output
from experiments.harness.jobs import Job, Study

FLAGS = flags.FLAGS

QUICK = {
    "trials": 3,
    "initial": 2,
    "max_steps": 4,
    "validation_size": 64,
    "seeds": 1,
}
# Approximate standard deviation of a trial's accuracy over seeds; the Gaussian process
# treats it as noise.
NOISE = 0.01


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_integer("trials", 24, "Trials per search.", lower_bound=1)
    flags.DEFINE_integer(
        "initial", 8, "Random trials that start both searches.", lower_bound=1
    )
    flags.DEFINE_integer("max_steps", 1000, "Steps per trial.", lower_bound=1)
    flags.DEFINE_integer(
        "validation_size", 10_000, "Held-out training images.", lower_bound=1
    )
    flags.DEFINE_integer("seeds", 3, "Final training runs per setting.", lower_bound=1)
    flags.DEFINE_string(
        "out_dir", "results/search", "Directory for trials, one folder per trial."
    )
    output.define_results_dir()
    flags.DEFINE_boolean(
        "quick", False, "Run a few trials of four steps, in about a minute."
    )


def main(argv: list[str]) -> None:
    """Runs the experiment."""
    del argv
    extras.require("the search", "search", "bayes_opt")
    if FLAGS.quick:
        for name, value in QUICK.items():
            FLAGS[name].value = value
    data = load_data(FLAGS.dataset, FLAGS.data_dir or None)
    command.print_banner(data.notice)
    settings = {name: FLAGS[name].value for name in QUICK}
    study = Study(
        pathlib.Path(FLAGS.out_dir), settings | {"fingerprint": data.fingerprint}
    )
    finished = study.work(
        plan, functools.partial(run, data), functools.partial(report, study)
    )
    record = {
        "machine": machine.machine() | {"device": machine.device()},
        "data": {
            "source": output.without_paths(data.source),
            "fingerprint": data.fingerprint,
        },
        "settings": settings,
        "space": {name: values._asdict() for name, values in SPACE.items()},
        "published": search_space.PUBLISHED,
        "jobs": [{"job": job.name} | job.task | (job.result or {}) for job in finished],
    }
    results = pathlib.Path(FLAGS.results_dir)
    output.write(record, results / "bayesian_search.json")
    output.write_rows(rows(finished), results / "bayesian_search.csv")
    output.write_figure(draw(record), results / "bayesian_search.png")
    output.keep(record)
    print(summary(finished, FLAGS.initial))


def plan(known: Sequence[Job]) -> Job | None:
    """Returns the next trial or final run; None if others must finish first."""
    if not known:
        return _trial(PUBLISHED, 0, search_space.PUBLISHED, None)
    for method, first in ((RANDOM, 0), (PROCESS, FLAGS.initial)):
        number = first + sum(job.task.get("method") == method for job in known)
        if number < FLAGS.trials:
            if method == RANDOM:
                point = random_point(number)
            else:
                point = expected_improvement(
                    trials(known, PROCESS, FLAGS.initial), number
                )
            return _trial(method, number, search_space.setting(point), point)
    if any(job.result is None and "method" in job.task for job in known):
        return None
    names = {job.name for job in known}
    for seed in range(FLAGS.seeds):
        for method in METHODS:
            chosen = best(trials(known, method, FLAGS.initial))
            name = f"final-{seed}-{method.replace(' ', '_')}"
            if name not in names:
                task = {"final": method, "seed": seed}
                return Job(name, task | {"setting": chosen.task["setting"]})
    return None


def _trial(
    method: str, number: int, setting: search_space.Setting, point: Point | None
) -> Job:
    name = f"{method.replace(' ', '_')}-{number:03}"
    task = {"method": method, "number": number, "setting": setting, "point": point}
    return Job(name, task)


def random_point(number: int) -> Point:
    """Returns the point of a random trial."""
    places = np.random.default_rng(number).uniform(size=len(SPACE))
    return dict(zip(SPACE, places.tolist(), strict=True))


def expected_improvement(known: Sequence[Job], number: int) -> Point:
    """Returns the point where a Gaussian process expects the largest improvement.

    As in the paper, its covariance is the Matern kernel of order 5/2. One length scale,
    fitted by maximum likelihood, is shared by all hyperparameters. The paper has one
    for each and averages over their likely values, but with so few trials, the nine
    most likely ones are useless.

    A trial that is still running counts as being as bad as the worst one, so that the
    next one is elsewhere (the "constant liar" of Ginsbourger, Le Riche and Carraro,
    2010).

    Args:
        known: The earlier trials.
        number: The trial's number, which seeds its random numbers.
    """
    from bayes_opt import BayesianOptimization
    from bayes_opt.acquisition import ExpectedImprovement
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    found = [accuracy(job) for job in known if job.result is not None]
    if not found:
        return random_point(number)
    optimizer = BayesianOptimization(
        f=None,
        pbounds=dict.fromkeys(SPACE, (0.0, 1.0)),
        acquisition_function=ExpectedImprovement(xi=0.0),
        random_state=number,
        verbose=0,
        allow_duplicate_points=True,
    )
    optimizer.set_gp_params(
        kernel=ConstantKernel(1.0, (0.1, 10.0)) * Matern(1.0, (0.3, 5.0), nu=2.5),
        # Relative to the variance of the accuracies.
        alpha=(NOISE / max(float(np.std(found)), NOISE)) ** 2,
    )
    for job in known:
        target = min(found) if job.result is None else accuracy(job)
        optimizer.register(job.task["point"], target)
    return {name: float(place) for name, place in optimizer.suggest().items()}


def run(data: Dataset, job: Job, folder: pathlib.Path) -> dict[str, Any]:
    """Trains and evaluates; a run that diverges counts as guessing."""
    is_final = "final" in job.task
    name = "test" if is_final else "validation"
    size = 0 if is_final else FLAGS.validation_size
    dataset = hold_out_validation(data, size)
    cheap = {"batch_size": 8, "ops": "plain"} if FLAGS.quick else {}
    config = search_space.config(
        job.task["setting"],
        FLAGS.max_steps,
        seed=job.task.get("seed", 0),
        validation_size=size,
        train_dir=str(folder / "run"),
        save_interval_secs=60.0,
        **cheap,
    )
    began = time.monotonic()
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        write = functools.partial(print, file=log, flush=True)
        try:
            network = fit(config, dataset, write).trained
            found = evaluate(network, dataset.split(name))
        except DivergedError as error:
            write(f"error: {error}")
            found = 1 / len(dataset.class_names)
    # The next run cannot use this run's compiled programs.
    jax.clear_caches()
    seconds = round(time.monotonic() - began, 1)
    return {f"{name}_accuracy": found, "seconds": seconds}


def report(study: Study, last: str, known: Sequence[Job]) -> None:
    """Prints the latest result and writes the table of all trials."""
    output.write_rows(rows(known), study.directory / "trials.csv")
    (job,) = (job for job in known if job.name == last)
    count = sum(job.result is not None for job in known)
    print(f"{count} finished; {last}: {output.describe(job.result or {})}", flush=True)


if __name__ == "__main__":
    common.run(main, define_flags, draw)
