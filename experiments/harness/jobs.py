"""Jobs shared by several processes, any of which may die.

    DIRECTORY/study.json        settings shared by all jobs
    DIRECTORY/<job>/job.json    the job's task
    DIRECTORY/<job>/result.json its result, once it has finished

A process claims a job with a lock that is released when the process ends. An unfinished
job that nobody holds is resumed from whatever its folder contains.
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

# Differs from a run's .lock, so that a job and its run can share a folder.
_LOCK = ".job.lock"


@dataclasses.dataclass(frozen=True)
class Job:
    """A part of a study.

    Attributes:
        name: The name of its folder.
        task: What to do.
        result: The result, or None if the job has not finished.
    """

    name: str
    task: dict[str, Any]
    result: dict[str, Any] | None = None


# Returns the next job, given all existing ones, or None if none is ready.
Plan = Callable[[Sequence[Job]], Job | None]


class Study:
    """All jobs in a directory."""

    def __init__(self, directory: pathlib.Path, settings: dict[str, Any]):
        """Creates or continues a study.

        Raises:
            UserError: the directory has a study with different settings.
        """
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = filelock.FileLock(directory / _LOCK)
        with self._lock:
            path = directory / "study.json"
            saved = json.loads(path.read_text()) if path.exists() else settings
            if saved != settings:
                raise UserError(
                    f"{directory} has a different study, with {output.describe(saved)};"
                    " pass the same settings to continue it, or a different --out_dir"
                )
            output.write(settings, path)

    def jobs(self) -> list[Job]:
        """Returns all jobs, sorted by name."""
        return [
            Job(
                path.parent.name,
                json.loads(path.read_text()),
                _read(path.with_name("result.json")),
            )
            for path in sorted(self.directory.glob("*/job.json"))
        ]

    def reopen(self, failed: Callable[[dict[str, Any]], bool]) -> None:
        """Reopens the jobs whose result counts as failed, so that they are retried."""
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
        """Runs jobs until all are finished, by any process; returns them.

        Args:
            plan: Returns the next job, or None if none is ready.
            run: Does a job in its folder and returns the result.
            report: Takes the name of a job that just finished, and all jobs.
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
            # Other processes are working on the rest.
            time.sleep(1)

    @contextlib.contextmanager
    def _claimed(self, plan: Plan) -> Iterator[Job | None]:
        """Holds a job that nobody else holds, or yields None if none is ready."""
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
