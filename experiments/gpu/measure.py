"""Measures figures while there is time."""

import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from cifar_jax import Dataset, Hook, Moment, evaluate, fit, load_data, plugins
from experiments.gpu.figures import Figure, Measurement, Precision
from experiments.gpu.results import Record, Results
from experiments.harness import machine

# Evaluations during a run, besides the one at its end.
EVALUATIONS = 40


class Watch(Hook):
    """Evaluates the network now and then, and ends a run that is out of time.

    Attributes:
        curve: the step and the precision of each evaluation.
        raw: the precision at the end without averages.
    """

    def __init__(self, name: str, max_steps: int, dataset: Dataset, ends: float):
        self.curve: list[tuple[int, float]] = []
        self.raw: float | None = None
        self._name, self._last = name, max_steps
        self._every = -(-max_steps // EVALUATIONS)
        self._test, self._ends = dataset.test, ends

    def due(self, step: int) -> int:
        """Returns the next step with an evaluation."""
        return min((step // self._every + 1) * self._every, self._last)

    def __call__(self, now: Moment) -> None:
        """Evaluates, or stops the run."""
        if now.step == self.due(now.first):
            self.curve.append((now.step, evaluate(now.to_trained(), self._test)))
            print(
                f"{self._name}: step {now.step:,} of {self._last:,}, "
                f"{now.seconds:.0f} s, precision {self.curve[-1][1]:.4f}",
                flush=True,
            )
        if now.step == self._last:
            self.raw = evaluate(now.to_trained(raw_params=True), self._test)
        elif time.time() > self._ends:
            now.stop("the time is over")


def measure(
    figures: Sequence[Figure], folder: pathlib.Path, data_dir: str, ends: float
) -> list[str]:
    """Measures what is missing and fits into the time, in this process.

    Args:
        figures: the figures, most wanted first.
        folder: where the results are.
        data_dir: see --data_dir.
        ends: when the time is over.

    Returns:
        What failed, and why.
    """
    results, failures = Results(folder), []
    for figure in figures:
        for seed in results.missing(figure):
            began = time.time()
            if began + results.seconds(figure) > ends:
                break
            try:
                if isinstance(figure, Precision):
                    found = _train(figure, seed, data_dir, ends)
                else:
                    found = _run(figure, data_dir, ends - began)
            except Exception as error:  # The minutes are too dear to end here.
                failures.append(f"{figure.name}, seed {seed}: {error}")
                print(failures[-1], flush=True)
                break
            if found:
                found["seconds"] = round(time.time() - began, 1)
                results.add(figure, seed, found)
    return failures


def _train(figure: Precision, seed: int, data_dir: str, ends: float) -> Record | None:
    """Returns the results of a run; None if it ran out of time."""
    dataset = load_data(figure.dataset, data_dir or None)
    config = figure.config(seed)
    watch = Watch(f"{figure.name}, seed {seed}", config.max_steps, dataset, ends)
    result = fit(config, dataset, log=lambda line: None, hooks=[watch])
    if result.steps < config.max_steps:
        return None
    return {
        "precision": watch.curve[-1][1],
        "precision_raw": watch.raw,
        "curve": watch.curve,
        "train_seconds": round(result.seconds, 1),
        "data": dataset.fingerprint,
        "machine": machine.machine() | {"device": machine.device()},
    }


def _run(figure: Measurement, data_dir: str, seconds: float) -> Record:
    """Returns what an experiment writes, as a result.

    Raises:
        subprocess.SubprocessError: it failed, or was not ready in time.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "result.json"
        module, *words = shlex.split(figure.command)
        flags = [
            *words,
            f"--data_dir={data_dir}",
            f"--json={path}",
            *plugins.as_flags(),
        ]
        command = [sys.executable, "-m", f"experiments.{module}", *flags]
        # In a session of its own, so that its children can be ended, too.
        process = subprocess.Popen(command, start_new_session=True)
        try:
            status = process.wait(seconds)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if status:
            raise subprocess.CalledProcessError(status, f"experiments.{module}")
        return {"result": json.loads(path.read_text(encoding="utf-8"))}
