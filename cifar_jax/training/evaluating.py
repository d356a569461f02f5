"""Evaluations during a training: how good it is, which state is best, when to stop."""

import contextlib
import dataclasses
import datetime
from collections.abc import Callable

import numpy as np

from cifar_jax.config.config import Config
from cifar_jax.data import Dataset
from cifar_jax.devices import processes
from cifar_jax.evaluation import metrics
from cifar_jax.evaluation.inference import predict_logits
from cifar_jax.runs import checkpoints, summaries
from cifar_jax.runs.run_dir import Run
from cifar_jax.runs.summaries import Writer
from cifar_jax.training.program import Program
from cifar_jax.training.train_state import TrainState
from cifar_jax.training.trained import of_state


class Evaluator:
    """Evaluates a training every `eval_frequency` steps, and at its end.

    Images are those that were held out for validation, or the test images if none were.
    Results are logged, and written where the eval command writes them. From there a
    resumed training knows the earlier ones, so it keeps and stops what one that was
    never stopped does.

    Attributes:
        latest: the last precision, of the averaged parameters; None before the first.
    """

    def __init__(
        self,
        config: Config,
        program: Program,
        dataset: Dataset,
        on_disk: Run | None,
        start: int,
        log: Callable[[str], None],
    ):
        """Reads the results of evaluations up to the step at which training starts."""
        self._config = config
        self._program = program
        self._dataset = dataset
        self._on_disk = on_disk
        self._log = log
        self._name = "test" if dataset.validation is None else "validation"
        self._split = dataset.split(self._name)
        self.latest: float | None = None
        self._best = _Best(0, -1, 0)
        if on_disk is not None:
            earlier = processes.run_on_main(lambda: self._earlier(on_disk, start))
            values = dataclasses.astuple(earlier or self._best)
            self._best = _Best(*processes.all_gather(*values)[0].tolist())

    @property
    def should_stop(self) -> bool:
        """Whether the last evaluations, --early_stopping of them, were no progress."""
        return 0 < self._config.early_stopping <= self._best.since

    def why_stopped(self) -> str:
        """Says why the training stopped early."""
        precision = self._best.correct / len(self._split)
        return (
            f"no progress in {self._best.since} evaluations since step "
            f"{self._best.step}, {self._name} precision @ 1 = {precision:.3f} "
            f"(--early_stopping={self._config.early_stopping})"
        )

    def next_after(self, step: int) -> int:
        """Returns the first step after this one at which an evaluation is due."""
        frequency = self._config.eval_frequency
        return min((step // frequency + 1) * frequency, self._config.max_steps)

    def __call__(self, state: TrainState) -> None:
        """Evaluates a state; every process must call it.

        Raises:
            RunError: a file cannot be written.
        """
        step = int(state.step)
        logits = self._logits(state, raw=False)
        correct = metrics.num_correct(logits, self._split.labels)
        self.latest = correct / len(self._split)
        precisions, words = {self._name: self.latest}, f"{self.latest:.3f}"
        if self._program.average.keeps:  # otherwise both are the same
            logits = self._logits(state, raw=True)
            raw = metrics.accuracy(logits, self._split.labels)
            precisions[f"{self._name}_raw"] = raw
            words += f", of raw parameters {raw:.3f}"
        now = datetime.datetime.now().isoformat(sep=" ", timespec="microseconds")
        self._log(f"{now}: step {step}, {self._name} precision @ 1 = {words}")
        if self._on_disk is not None and processes.is_main():
            self._write(self._on_disk, step, precisions)
        self._best = self._best.after(step, correct)
        if self._best.step == step and self._config.keep_best:
            assert self._on_disk is not None, "Config makes sure of that"
            checkpoints.save(self._on_disk.best, step, state, kept=1)

    def _logits(self, state: TrainState, raw: bool) -> np.ndarray:
        network = of_state(self._program, state, self._dataset, raw)
        images, devices = self._split.images, self._config.num_devices
        return predict_logits(network, images, num_devices=devices)

    def _write(self, run: Run, step: int, precisions: dict[str, float]) -> None:
        count = len(self._split)
        for name, precision in precisions.items():
            with Writer(run.evaluations, name, prefix=f"{name}/") as writer:
                writer.write(
                    step,
                    {"precision_at_1": precision},
                    facts={"num_examples": count, "examples_in_split": count},
                )

    def _earlier(self, run: Run, start: int) -> "_Best":
        """Returns the best of the evaluations that a resumed training has made."""
        best, path = self._best, run.evaluations / f"{self._name}.jsonl"
        with contextlib.suppress(FileNotFoundError):
            for record in summaries.read_evaluations(path):
                step = record["step"]
                regular = step % self._config.eval_frequency == 0
                # The last step of a training that is prolonged need not be regular.
                if 0 < step <= start and (regular or step == start):
                    correct = round(record["precision_at_1"] * len(self._split))
                    best = best.after(step, correct)
        return best


@dataclasses.dataclass(frozen=True)
class _Best:
    """The best evaluation: its step, correct images, and the evaluations since then."""

    step: int
    correct: int
    since: int

    def after(self, step: int, correct: int) -> "_Best":
        """Returns the best one after another evaluation."""
        if correct > self.correct:
            return _Best(step, correct, 0)
        return dataclasses.replace(self, since=self.since + 1)
