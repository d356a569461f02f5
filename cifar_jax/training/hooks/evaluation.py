"""Evaluation during training: precision, the best state so far, early stopping."""

import dataclasses

import numpy as np

from cifar_jax import console
from cifar_jax.config.config import Config
from cifar_jax.console import Log
from cifar_jax.data import Dataset
from cifar_jax.devices import processes
from cifar_jax.errors import RunError
from cifar_jax.evaluation.inference import Trained, predict_logits
from cifar_jax.evaluation.measuring import facts, format_metrics, measure
from cifar_jax.metrics import scores
from cifar_jax.runs import checkpoints, records
from cifar_jax.runs.run_dir import Run
from cifar_jax.training.hooks.log import now as time_now
from cifar_jax.training.loop import Hook, Moment
from cifar_jax.training.program import Program
from cifar_jax.writers import Summary, Writers


class Evaluation(Hook):
    """Evaluates the network every `eval_frequency` steps, and at the end.

    It uses the images held out for validation, or the test images if there are none.
    Results are logged, and written where the eval command writes its own. A resumed run
    reads the earlier results from there, so it keeps and stops exactly as an
    uninterrupted run does.

    Attributes:
        latest: the latest precision, of the averaged parameters; None before the first.
    """

    def __init__(
        self,
        config: Config,
        program: Program,
        dataset: Dataset,
        run: Run | None,
        start: int,
        writers: Writers,
        log: Log,
    ):
        """Reads earlier results, up to step `start`, where training starts."""
        self._config = config
        self._run = run
        self._writers = writers
        self._log = log
        self._name = "test" if dataset.validation is None else "validation"
        self._split = dataset.split(self._name)
        self._class_names = dataset.class_names
        self._fingerprint = dataset.fingerprint
        self._averages = program.average.keeps
        self.latest: float | None = None
        self._best = _Best(0, -1, 0)
        if run is not None:
            earlier = processes.run_on_main(lambda: self._find_earlier(run, start))
            values = dataclasses.astuple(earlier or self._best)
            self._best = _Best(*processes.all_gather(*values)[0].tolist())

    def why_stop(self) -> str | None:
        """Returns why training should stop, or None if it should continue."""
        if not 0 < self._config.early_stopping <= self._best.since:
            return None
        precision = self._best.correct / len(self._split)
        return (
            f"no progress in {self._best.since} evaluations since step "
            f"{self._best.step}, {self._name} precision @ 1 = {precision:.3f} "
            f"(--early_stopping={self._config.early_stopping})"
        )

    def due(self, step: int) -> int:
        """Returns the next multiple of eval_frequency, or max_steps if sooner."""
        frequency = self._config.eval_frequency
        return min((step // frequency + 1) * frequency, self._config.max_steps)

    def __call__(self, now: Moment) -> None:
        """Evaluates the state if it is due; every process must call this."""
        if now.step != self.due(now.first):
            return
        logits, labels = self._logits(now.to_trained()), self._split.labels[:]
        of, raw = {self._name: logits}, f"{self._name}_raw"
        if self._averages:  # otherwise, both are the same
            of[raw] = self._logits(now.to_trained(raw_params=True))
        found = {name: self._measure(own, labels) for name, own in of.items()}
        self.latest = found[self._name]["precision_at_1"]
        words = f"{self.latest:.3f}"
        if raw in found:
            words += f", with raw parameters {found[raw]['precision_at_1']:.3f}"
        words += format_metrics(found[self._name])
        self._log(
            f"{time_now()}: step {now.step}, {self._name} precision @ 1 = {words}"
        )
        for name, own in of.items():
            counts = facts(own, labels, len(labels), self._fingerprint)
            self._writers.write(Summary(f"eval/{name}", now.step, found[name], counts))
        correct = scores.num_correct(logits, labels)
        self._best = self._best.after(now.step, correct)
        if self._best.step == now.step and self._config.keep_best:
            assert self._run is not None, "Config ensures this"
            where, run_id = self._run.best, self._run.id
            checkpoints.save(
                where, now.step, now.state, run_id, kept=1, correct=correct
            )
        if (reason := self.why_stop()) is not None:
            now.stop(reason)

    def _logits(self, network: Trained) -> np.ndarray:
        devices = self._config.num_devices
        return predict_logits(network, self._split.images, num_devices=devices)

    def _measure(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        return measure(self._config.eval_metrics, logits, labels, self._class_names)

    def _find_earlier(self, run: Run, start: int) -> "_Best":
        """Returns the best of a resumed run's earlier evaluations."""
        best = self._find_kept(run, start) if self._config.keep_best else self._best
        for record in records.evaluations(run, self._name):
            step = record["step"]
            regular = step % self._config.eval_frequency == 0
            # A run that was extended may have ended at any step.
            if best.step < step <= start and (regular or step == start):
                correct = round(record["precision_at_1"] * len(self._split))
                best = best.after(step, correct)
        return best

    def _find_kept(self, run: Run, start: int) -> "_Best":
        """Returns the best evaluation up to a step, as recorded in its checkpoint."""
        try:
            step = checkpoints.newest_step(run.best, run.id)
        except RunError as error:
            console.warn(f"{error}; the next evaluation may be kept as the best")
            step = None
        if step is None or step > start:
            return self._best
        known = checkpoints.facts(run.best, step)
        return _Best(step, known["correct"], 0) if "correct" in known else self._best


@dataclasses.dataclass(frozen=True)
class _Best:
    """The best evaluation: its step, number correct, and evaluations since then."""

    step: int
    correct: int
    since: int

    def after(self, step: int, correct: int) -> "_Best":
        """Returns the best evaluation once another one has been made."""
        if correct > self.correct:
            return _Best(step, correct, 0)
        return dataclasses.replace(self, since=self.since + 1)
