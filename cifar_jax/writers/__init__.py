"""The writers of summaries, by name."""

import concurrent.futures
import contextlib
import pathlib
from collections.abc import Callable, Iterator, Sequence

from cifar_jax.errors import RunError
from cifar_jax.registry import Registry, resolve_all
from cifar_jax.writers.base import Histogram, Summary, Writer, as_numbers
from cifar_jax.writers.jsonl import JsonLines
from cifar_jax.writers.tensorboard import TensorBoard

__all__ = ["WRITERS", "Histogram", "Summary", "Writer", "Writers", "as_numbers"]

WRITERS: Registry[Writer] = Registry(
    Writer,
    {
        "jsonl": JsonLines,
        "tensorboard": TensorBoard,
    },
)


class Writers(contextlib.AbstractContextManager["Writers"]):
    """The writers of a run, all of which write each summary, in a separate thread.

    They are opened when there is something to write. An error is raised by `write`, by
    the next `write`, or at the end.
    """

    def __init__(
        self,
        names: str,
        directory: pathlib.Path | None,
        resume_step: int | None = None,
    ):
        """Creates the writers with these names.

        Args:
            names: names as in --writers, such as "jsonl, tensorboard".
            directory: directory of the run or of other results, created if needed; None
                to write nothing.
            resume_step: see `Writer.open`.
        """
        self._writers: Sequence[Writer] = resolve_all(names, WRITERS, "writers")
        self._directory = directory
        self._resume_step = resume_step
        self._opened: list[Writer] = []
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._pending: list[concurrent.futures.Future[None]] = []

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

    def __exit__(self, *error: object) -> None:
        try:
            self._wait()
        except Exception:
            if error[0] is None:  # otherwise another error has ended the run
                raise
        finally:
            self._thread.shutdown()
            for writer in self._opened:
                with _writing(type(writer).__name__):
                    writer.close()

    def _wait(self) -> None:
        pending, self._pending = self._pending, []
        for one in pending:
            one.result()

    def _write(self, summary: Callable[[], Summary]) -> None:
        assert self._directory is not None
        with _writing("summaries"):
            made = summary()
        for writer in self._writers:
            with _writing(type(writer).__name__):
                if writer not in self._opened:
                    self._directory.mkdir(parents=True, exist_ok=True)
                    writer.open(self._directory, self._resume_step)
                    self._opened.append(writer)
                writer.write(made)


@contextlib.contextmanager
def _writing(what: str) -> Iterator[None]:
    """Turns a disk error into a RunError."""
    try:
        yield
    except OSError as error:
        where = error.filename or what
        raise RunError(f"cannot write {where}: {error.strerror or error}") from error
