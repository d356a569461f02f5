r"""What a study has tried, on disk, shared by all processes that work on it.

    STUDY_DIR/study.journal           Optuna's record of the trials
    STUDY_DIR/<trial>/seed=0          the run with a setting and a seed
    STUDY_DIR/<trial>/seed=0/result.json    its result, once it has ended

A trial is a setting, whose value is the mean over its seeds. A process claims a run
with a lock that is released when the process ends, however it ends. A run without a
result that nobody holds is continued from its newest checkpoint.
"""

import contextlib
import dataclasses
import json
import pathlib
import re
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import filelock
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from cifar_jax.errors import UserError
from cifar_jax.runs.files import write_atomically
from cifar_jax.studies.space import Setting

# The attribute of a trial that has its number and setting. Trials without it are of a
# process that ended before it could write it, and do not count.
_SETTING = "setting"
_SETTINGS_OF_STUDY = "settings"
_RESULT = "result.json"
# Differs from a run's .lock: the training process takes that one.
_LOCK = ".study.lock"
_LONGEST_NAME = 80

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclasses.dataclass(frozen=True)
class Job:
    """A run to be made.

    Attributes:
        number: the number of its trial.
        setting: its setting.
        seed: its seed.
        folder: its folder.
        trial: its trial in Optuna, to which it may report.
    """

    number: int
    setting: Setting
    seed: int
    folder: pathlib.Path
    trial: Trial


@dataclasses.dataclass(frozen=True)
class Tried:
    """A setting that was tried.

    Attributes:
        number: its number, from 0.
        setting: the text of each varied setting.
        folder: the folder of its runs.
        results: for each seed, the result of its run, if that has ended.
        frozen: its trial in Optuna.
    """

    number: int
    setting: Setting
    folder: pathlib.Path
    results: dict[int, dict[str, Any]]
    frozen: FrozenTrial

    @property
    def has_ended(self) -> bool:
        """Whether Optuna knows its value, or that it was pruned."""
        return self.frozen.state.is_finished()

    @property
    def was_pruned(self) -> bool:
        """Whether it was found hopeless."""
        return any("pruned" in result for result in self.results.values())


class _Lock(JournalFileOpenLock):
    """A lock that ends with its process; Optuna's own remain for half a minute."""

    def __init__(self, path: pathlib.Path):
        self._lock = filelock.FileLock(path)

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


class Store:
    """The trials and runs in the folder of a study."""

    def __init__(
        self,
        folder: pathlib.Path,
        settings: dict[str, Any],
        seeds: int,
        of_guess: float,
    ):
        """Creates or continues a study.

        Args:
            folder: the folder.
            settings: what all its runs share, for which JSON has types.
            seeds: the number of runs of each setting, with seeds from 0.
            of_guess: the precision that a run which diverged counts as.

        Raises:
            UserError: the folder has a study with other settings.
        """
        self.folder = folder
        self.seeds = range(seeds)
        self._of_guess = of_guess
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = filelock.FileLock(folder / _LOCK)
        with self._lock:
            self.study = optuna.create_study(
                study_name="study",
                storage=self._storage(),
                direction="maximize",
                load_if_exists=True,
            )
            saved = self.study.user_attrs.setdefault(_SETTINGS_OF_STUDY, settings)
            if saved != settings:
                differing = ", ".join(
                    f"{name} {saved.get(name)!r} there, {settings.get(name)!r} now"
                    for name in {**saved, **settings}
                    if saved.get(name) != settings.get(name)
                )
                raise UserError(
                    f"{folder} holds another study ({differing}); pass the same flags "
                    "to continue it, or another --study_dir"
                )
            self.study.set_user_attr(_SETTINGS_OF_STUDY, settings)

    def _storage(self) -> JournalStorage:
        path = self.folder / "study.journal"
        lock = _Lock(self.folder / ".journal.lock")
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))

    def trials(self) -> list[Tried]:
        """Returns the settings that were tried so far, in order."""
        found = [
            self._tried(trial)
            for trial in self.study.get_trials(deepcopy=False)
            if _SETTING in trial.user_attrs
        ]
        return sorted(found, key=lambda tried: tried.number)

    def _tried(self, trial: FrozenTrial) -> Tried:
        number, setting = trial.user_attrs[_SETTING]
        folder = self.folder / _name(number, setting)
        results = {
            int(path.parent.name.removeprefix("seed=")): json.loads(path.read_text())
            for path in folder.glob(f"seed=*/{_RESULT}")
        }
        return Tried(number, setting, folder, dict(sorted(results.items())), trial)

    def is_done(self) -> bool:
        """Returns whether no run is left, by any process."""
        return all(
            tried.was_pruned or set(self.seeds) <= tried.results.keys()
            for tried in self.trials()
        )

    def retry_failed(self) -> None:
        """Removes the results of failed runs, so that they are made again."""
        with self._lock:
            for tried in self.trials():
                for seed, result in tried.results.items():
                    if "failed" in result:
                        (tried.folder / f"seed={seed}" / _RESULT).unlink()

    @contextlib.contextmanager
    def claimed(
        self, ask: Callable[[list[Tried]], tuple[Trial, Setting] | None]
    ) -> Iterator[Job | None]:
        """Holds a run that nobody else holds; yields None if there is none.

        Args:
            ask: returns a new trial, given the earlier ones, or None. It is called if
                all runs of these have ended or are held.
        """
        with contextlib.ExitStack() as stack:
            with self._lock:
                trials = self.trials()
                job = self._left(trials, stack) or self._new(trials, ask, stack)
            yield job

    def _new(
        self,
        trials: list[Tried],
        ask: Callable[[list[Tried]], tuple[Trial, Setting] | None],
        stack: contextlib.ExitStack,
    ) -> Job | None:
        # A sampler must know what an unkilled study would have told it, and no more.
        self._tell()
        self._forget_unfinished()
        if (asked := ask(trials)) is None:
            return None
        trial, setting = asked
        number = len(trials)
        trial.set_user_attr(_SETTING, [number, setting])
        folder = self.folder / _name(number, setting) / "seed=0"
        job = Job(number, setting, 0, folder, trial)
        return job if _hold(job, stack) else None

    def _forget_unfinished(self) -> None:
        """Ends the trials of processes that were killed before their setting was known.

        No process is about to write one, because they do so with the lock.
        """
        for trial in self.study.get_trials(
            deepcopy=False, states=(TrialState.RUNNING,)
        ):
            if _SETTING not in trial.user_attrs:
                self.study.tell(trial.number, state=TrialState.FAIL)

    def _left(self, trials: list[Tried], stack: contextlib.ExitStack) -> Job | None:
        for tried in trials:
            if tried.was_pruned:
                continue
            # Its only public use is to suggest and report.
            trial = Trial(self.study, tried.frozen._trial_id)
            for seed in self.seeds:
                folder = tried.folder / f"seed={seed}"
                job = Job(tried.number, tried.setting, seed, folder, trial)
                if seed not in tried.results and _hold(job, stack):
                    return job
        return None

    def finish(self, job: Job, result: dict[str, Any]) -> list[Tried]:
        """Writes the result of a run, and tells Optuna the value of what has ended.

        Args:
            job: the run, which this process holds.
            result: its result. With `failed`, it does not count, and is retried when
                the study is continued; with `pruned`, the trial has no other runs.

        Returns:
            All trials.
        """
        with self._lock:
            text = json.dumps(result, indent=1) + "\n"
            write_atomically(job.folder / _RESULT, text)
            self._tell()
            return self.trials()

    def _tell(self) -> None:
        """Tells Optuna the values of the trials whose runs have all ended."""
        for tried in self.trials():
            results = [tried.results.get(seed) or {"failed": ""} for seed in self.seeds]
            if tried.has_ended:
                continue
            if tried.was_pruned:
                self.study.tell(tried.frozen.number, state=TrialState.PRUNED)
            elif not any("failed" in result for result in results):
                values = [one.get("precision", self._of_guess) for one in results]
                self.study.tell(tried.frozen.number, statistics.fmean(values))


def _hold(job: Job, stack: contextlib.ExitStack) -> bool:
    """Takes the lock of a run; returns whether nobody else has it."""
    job.folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(job.folder / _LOCK, timeout=0)
    try:
        stack.enter_context(lock)
    except filelock.Timeout:
        return False
    return True


def _name(number: int, setting: Setting) -> str:
    """Returns the name of a setting's folder, which spells it out as far as it can."""
    exact = ",".join(f"{name}={text}" for name, text in setting.items())
    readable = re.sub(r"[^\w.,=+-]+", "-", exact, flags=re.ASCII)[:_LONGEST_NAME]
    return f"{number:03}-{readable}".rstrip("-.")
