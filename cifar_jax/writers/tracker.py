"""What writers to experiment trackers have in common."""

import abc
import json
import pathlib
from collections.abc import Mapping
from typing import ClassVar

from cifar_jax import console, extras
from cifar_jax.errors import UserError
from cifar_jax.writers.base import RunInfo, Summary


class Tracker(abc.ABC):
    """A writer to an experiment tracker, whose failures do not end a run.

    A tracker that cannot be used is an error before training starts. One that fails
    later is left out from then on, with a warning. DIR/NAME.json, in the directory of
    the run, keeps what is needed to continue the tracker's own run.

    Attributes:
        name: its name in WRITERS, and the name of the extra and module it needs.
        title: what messages call it.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    @abc.abstractmethod
    def start(self, directory: pathlib.Path, run: RunInfo) -> str:
        """Starts, or continues, the tracker's run; see `Writer.open`."""

    @abc.abstractmethod
    def record(self, summary: Summary) -> None:
        """Records a summary."""

    @abc.abstractmethod
    def finish(self, error: BaseException | None) -> None:
        """Ends the tracker's run; see `Writer.close`."""

    def open(self, directory: pathlib.Path, run: RunInfo) -> str:
        """Starts, or continues, the tracker's run; returns where to see it.

        Raises:
            UserError: it cannot be used.
        """
        extras.require(f"--writers={self.name}", self.name, self.name)
        self._works = True
        return self.start(directory, run)

    def write(self, summary: Summary) -> None:
        """Records a summary unless the tracker has failed."""
        if not self._works:
            return
        # Whatever a tracker's own retries end in is no reason to lose the run.
        try:
            self.record(summary)
        except Exception as error:
            self._works = False
            console.warn(
                f"{self.title} failed at step {summary.step} and gets nothing more "
                f"from this process: {reason(error)}"
            )

    def close(self, error: BaseException | None) -> None:
        """Ends the tracker's run unless the tracker has failed."""
        if not self._works:
            return
        try:
            self.finish(error)
        except Exception as failure:
            console.warn(f"{self.title} could not end its run: {reason(failure)}")

    def remember(self, run: RunInfo, facts: Mapping[str, str]) -> None:
        """Keeps facts about the tracker's run in the directory of a run."""
        kept = {"run": run.id, **facts}
        if self.recall(run) == kept:  # others may only be able to read the directory
            return
        path = run.path / f"{self.name}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)

    def recall(self, run: RunInfo) -> dict[str, str] | None:
        """Returns what `remember` kept about a run; None if it kept nothing.

        A run that starts again from its first step in the same directory is another.

        Raises:
            UserError: the file is damaged.
        """
        path = run.path / f"{self.name}.json"
        try:
            kept: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
            return kept if kept["run"] == run.id else None
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{path} is damaged; delete it to start another {self.title} run"
            ) from None


def reason(error: BaseException) -> str:
    """Returns the first line of an error, or its type if it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
