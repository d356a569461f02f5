"""Jobs that several processes share, and that survive the death of each of them.

    DIRECTORY/study.json        what all jobs have in common
    DIRECTORY/<job>/job.json    what the job is to do
    DIRECTORY/<job>/result.json what it found; without it, it is not finished

A job is claimed by a lock that ends with its process; one that is not finished and that
nobody holds is taken up again, with whatever its folder contains.
"""

import contextlib
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import filelock

from cifar_jax import UserError
from experiments.harness import output

# Not a run's .lock, so that the folder of a job can be that of its run.
_LOCK = ".job.lock"


@dataclasses.dataclass(frozen=True)
class Job:
    """A part of a study.

    Attributes:
        name: of its folder.
        task: what is to be done.
        result: what was found; None if it is not finished.
    """

    name: str
    task: dict[str, Any]
    result: dict[str, Any] | None = None


# Says what else is to be done, given all jobs that there are; None: nothing for now.
Plan = Callable[[Sequence[Job]], Job | None]


class Study:
    """All jobs in a directory."""

    def __init__(self, directory: pathlib.Path, settings: dict[str, Any]):
        """Creates or continues a study.

        Raises:
            UserError: the directory has another one, with other settings.
        """
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = filelock.FileLock(directory / _LOCK)
        with self._lock:
            path = directory / "study.json"
            saved = json.loads(path.read_text()) if path.exists() else settings
            if saved != settings:
                raise UserError(
                    f"{directory} has another study, with {output.describe(saved)}; "
                    "give the same settings to continue it, or choose another --out_dir"
                )
            output.write(settings, path)

    def jobs(self) -> list[Job]:
        """Returns all jobs, in the order of their names."""
        return [
            Job(
                path.parent.name,
                json.loads(path.read_text()),
                _read(path.with_name("result.json")),
            )
            for path in sorted(self.directory.glob("*/job.json"))
        ]

    def reopen(self, failed: Callable[[dict[str, Any]], bool]) -> None:
        """Makes jobs with such results unfinished again, so that they are retried."""
        with self._lock:
            for job in self.jobs():
                if job.result is not None and failed(job.result):
                    (self.directory / job.name / "result.json").unlink()

    def work(
        self,
        plan: Plan,
        run: Callable[[Job, pathlib.Path], dict[str, Any]],
        report: Callable[[str, Sequence[Job]], None],
    ) -> list[Job]:
        """Runs jobs until all are finished, by whatever process; returns them.

        Args:
            plan: says what else is to be done.
            run: does a job, in its folder, and returns the result.
            report: is given the name of a job that is finished, and all jobs.
        """
        while True:
            with self._claimed(plan) as job:
                if job is not None:
                    folder = self.directory / job.name
                    result = run(job, folder)
                    with self._lock:
                        output.write(result, folder / "result.json")
                        report(job.name, self.jobs())
                    continue
            jobs = self.jobs()
            if all(job.result is not None for job in jobs) and plan(jobs) is None:
                return jobs
            # Other processes are at work on the rest.
            time.sleep(1)

    @contextlib.contextmanager
    def _claimed(self, plan: Plan) -> Iterator[Job | None]:
        """Holds a job that nobody else holds; None if there is none for now."""
        with contextlib.ExitStack() as stack:
            with self._lock:
                job = self._abandoned(stack) or self._new(plan, stack)
            yield job

    def _abandoned(self, stack: contextlib.ExitStack) -> Job | None:
        for job in self.jobs():
            if job.result is None and self._hold(job, stack):
                return job
        return None

    def _new(self, plan: Plan, stack: contextlib.ExitStack) -> Job | None:
        job = plan(self.jobs())
        if job is not None:
            output.write(job.task, self.directory / job.name / "job.json")
            self._hold(job, stack)
        return job

    def _hold(self, job: Job, stack: contextlib.ExitStack) -> bool:
        lock = filelock.FileLock(self.directory / job.name / _LOCK, timeout=0)
        try:
            stack.enter_context(lock)
        except filelock.Timeout:
            return False
        return True


def _read(path: pathlib.Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.exists() else None
