"""Makes the runs of a study with the real commands."""

import dataclasses
import sys
import time
from collections.abc import Mapping
from typing import Any

from cifar_jax import console, plugins
from cifar_jax.evaluation import comparison
from cifar_jax.runs import checkpoints, lock, records
from cifar_jax.runs.run_dir import read as read_run
from cifar_jax.studies import space
from cifar_jax.studies.side_by_side import Processes, Share
from cifar_jax.studies.store import Job

# How the train command reports that training produced non-finite values.
_DIVERGED = "training diverged at step"


@dataclasses.dataclass(frozen=True)
class Runner:
    """Trains and evaluates.

    Attributes:
        processes: starts the commands.
        fixed: the texts of the train flags that all runs share.
        split: the images to evaluate on, test or validation.
        prunes: whether hopeless trials are stopped.
    """

    processes: Processes
    fixed: Mapping[str, str]
    split: str
    prunes: bool

    def run(self, share: Share, job: Job) -> dict[str, Any]:
        """Makes a run, or what is left of it.

        Returns:
            Its precision, and the minutes it trained; or else, by `pruned`, the step at
            which it was stopped as hopeless; or, by `diverged` or `failed`, the reason.

        Raises:
            Stopped: a signal was received.
        """
        if lock.is_training(job.folder):
            # The process of the study that started it was killed.
            console.say(f"{_name(job)}: waiting for the run in progress there")
        while lock.is_training(job.folder):
            self.processes.check()
            time.sleep(1)
        saved = checkpoints.steps(job.folder / "checkpoints")
        begins = f"resuming from step {saved[-1]}" if saved else "starting"
        log = job.folder / "log.txt"
        console.say(f"{_name(job)}: {begins}, log in {log}")
        flags = space.flags(job.setting, self.fixed)
        words = [f"--{name}={text}" for name, text in flags.items()]
        # Only the first seed is compared with those of other trials.
        watch = _Watch(job, self.split) if self.prunes and job.seed == 0 else None
        for name, *more in (
            ("train", f"--train_dir={job.folder}", f"--seed={job.seed}", *words),
            ("eval", f"--checkpoint_dir={job.folder}", f"--eval_data={self.split}"),
        ):
            command = [sys.executable, "-m", f"cifar_jax.{name}", *more]
            command += plugins.as_flags()
            hopeless = watch if name == "train" else None
            error = self.processes.run(command, share.environment, log, hopeless)
            if watch is not None and watch.pruned is not None:
                return {"pruned": watch.pruned}
            if error is not None:
                return {"diverged" if _DIVERGED in error else "failed": error}
        return self._result(job)

    def _result(self, job: Job) -> dict[str, Any]:
        [record] = comparison.compare([comparison.read(read_run(job.folder))])
        last = record["evaluations"][self.split]["last"]
        return {
            "precision": last["precision_at_1"],
            "step": last["step"],
            "num_examples": last["num_examples"],
            "minutes": record["minutes"],
            "fingerprint": record["data_fingerprint"],
        }


class _Watch:
    """Reports the evaluations of a run while it trains, until it is pruned.

    Attributes:
        pruned: the step of the evaluation after which it was pruned, or None.
    """

    def __init__(self, job: Job, split: str):
        self.pruned: int | None = None
        self._job = job
        self._split = split

    def __call__(self) -> bool:
        """Returns whether the pruner finds the run hopeless."""
        if not (self._job.folder / "config.json").exists():
            return False
        run = read_run(self._job.folder)
        trial = self._job.trial
        known = trial.study.get_trials(deepcopy=False)[trial.number]
        reported = known.last_step if known.last_step is not None else -1
        for record in records.evaluations(run, self._split):
            step = record["step"]
            if step > reported:
                trial.report(record["precision_at_1"], step)
            # The last one may be from a process that was killed before it asked.
            if step >= reported and trial.should_prune():
                self.pruned = step
                return True
        return False


def _name(job: Job) -> str:
    return f"{job.folder.parent.name}, seed {job.seed}"
