"""The writers of summaries, by name."""

import concurrent.futures
import contextlib
import pathlib
from collections.abc import Callable, Iterator, Sequence

from cifar_jax import console
from cifar_jax.errors import RunError
from cifar_jax.registry import Registry, resolve_all
from cifar_jax.writers.base import Histogram, RunInfo, Summary, Writer, as_numbers
from cifar_jax.writers.jsonl import JsonLines
from cifar_jax.writers.mlflow import MLflow
from cifar_jax.writers.tensorboard import TensorBoard
from cifar_jax.writers.wandb import WandB

__all__ = [
    "WRITERS",
    "Histogram",
    "RunInfo",
    "Summary",
    "Writer",
    "Writers",
    "as_numbers",
]

WRITERS: Registry[Writer] = Registry(
    Writer,
    {
        "jsonl": JsonLines,
        "tensorboard": TensorBoard,
        "wandb": WandB,
        "mlflow": MLflow,
    },
)


class Writers(contextlib.AbstractContextManager["Writers"]):
    """The writers of a run, all of which write each summary, in a separate thread.

    They are opened where the context begins. An error in writing is raised by `write`,
    by the next `write`, or at the end.
    """

    def __init__(
        self,
        names: str,
        directory: pathlib.Path | None,
        run: RunInfo | None = None,
        log: console.Log = console.log,
    ):
        """Creates the writers with these names.

        Args:
            names: names as in --writers, such as "jsonl, tensorboard".
            directory: directory of the run or of other results, created if needed; None
                to write nothing.
            run: what the summaries are about; None if they are not about a run.
            log: called with what the writers say when they are opened.
        """
        self._writers: Sequence[Writer] = resolve_all(names, WRITERS, "writers")
        self._directory = directory
        self._run = run
        self._log = log
        self._opened: list[Writer] = []
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._pending: list[concurrent.futures.Future[None]] = []

    def __enter__(self) -> "Writers":
        if self._directory is not None:
            try:
                self._open(self._directory, self._run or RunInfo(self._directory))
            except BaseException as error:
                self._close(error)
                raise
        return self

    def write(self, summary: Summary | Callable[[], Summary]) -> None:
        """Writes a summary; does not wait for a summary that is yet to be computed.

        Raises:
            RunError: this summary or an earlier one cannot be written.
        """
        self._wait()
        if self._directory is None:
            return
        if isinstance(summary, Summary):
            self._pending.append(self._thread.submit(self._write, lambda: summary))
            self._wait()
        else:
            self._pending.append(self._thread.submit(self._write, summary))

    def note(self, summary: Summary) -> None:
        """Writes a small summary without waiting for it or for earlier ones.

        Raises:
            RunError: an earlier summary could not be written.
        """
        if self._directory is None:
            return
        if self._pending and self._pending[-1].done():
            self._wait()
        self._pending.append(self._thread.submit(self._write, lambda: summary))

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        try:
            self._wait()
        except Exception as failure:
            if error is None:  # otherwise another error has ended the run
                error = failure
                raise
        finally:
            self._thread.shutdown()
            self._close(error)

    def _open(self, directory: pathlib.Path, run: RunInfo) -> None:
        with _writing("summaries"):
            directory.mkdir(parents=True, exist_ok=True)
        for writer in self._writers:
            with _writing(type(writer).__name__):
                line = writer.open(directory, run)
            self._opened.append(writer)
            if line is not None:
                self._log(line)

    def _close(self, error: BaseException | None) -> None:
        for writer in self._opened:
            with _writing(type(writer).__name__):
                writer.close(error)

    def _wait(self) -> None:
        pending, self._pending = self._pending, []
        for one in pending:
            one.result()

    def _write(self, summary: Callable[[], Summary]) -> None:
        with _writing("summaries"):
            made = summary()
        for writer in self._opened:
            with _writing(type(writer).__name__):
                writer.write(made)


@contextlib.contextmanager
def _writing(what: str) -> Iterator[None]:
    """Turns a disk error into a RunError."""
    try:
        yield
    except OSError as error:
        where = error.filename or what
        raise RunError(f"cannot write {where}: {error.strerror or error}") from error
