"""Saves and restores checkpoints with Orbax, which only this module uses.

    DIRECTORY/<step>/             Orbax's files
    DIRECTORY/<step>/SHA256SUMS   their checksums, also for `sha256sum -c SHA256SUMS`

A checkpoint and its checksums are written under a temporary name and renamed once they
are complete. A checkpoint whose files do not match its checksums was damaged later:
Orbax alone notices neither a flipped bit in the parameters nor every missing file.
"""

import contextlib
import hashlib
import os
import pathlib
import re
import shutil
from collections.abc import Iterator

import jax
import orbax.checkpoint.experimental.v1 as ocp
from absl import logging as absl_logging
from jaxtyping import PyTree

from cifar_jax import console
from cifar_jax.devices import processes
from cifar_jax.errors import RunError
from cifar_jax.runs.files import is_litter

# The tutorial's `tf.train.Saver` keeps as many.
KEPT = 5
_SUMS = "SHA256SUMS"
_NAME = "state"  # Name of the only tree in a checkpoint.
_STEP = re.compile(r"0|[1-9][0-9]*")
# Checkpoints being written or deleted; leftovers of a killed run are deleted too.
_PARTIAL, _DELETED = ".{}.partial", ".{}.deleted"
_LEFTOVERS = re.compile(r"\.[0-9]+\.(partial|deleted)\b.*")


def steps(directory: pathlib.Path) -> list[int]:
    """Returns the steps of the checkpoints, oldest first, including damaged ones.

    Folders whose names are not steps, such as copies, are ignored.
    """
    if not directory.is_dir():
        return []
    return sorted(
        int(path.name)
        for path in directory.iterdir()
        if _STEP.fullmatch(path.name) and path.is_dir()
    )


def save(directory: pathlib.Path, step: int, state: PyTree, kept: int = KEPT) -> None:
    """Writes the checkpoint of a step and keeps only the newest `kept`.

    Every process of a run must call it, with the same folder. An existing checkpoint
    of the same step is replaced.

    Raises:
        RunError: the checkpoint could not be written, for example to a full disk.
    """
    partial = directory.resolve() / _PARTIAL.format(step)
    try:
        if processes.is_main():
            directory.mkdir(parents=True, exist_ok=True)
            _delete_leftovers(directory)
        with _quiet():
            ocp.save_checkpointables(partial, {_NAME: state}, overwrite=True)
        if processes.is_main():
            _write_sums(partial)
            _delete(directory, step)
            partial.rename(directory / str(step))
            for old in steps(directory)[:-kept]:
                _delete(directory, old)
    except Exception as error:  # Orbax propagates whatever its storage raises.
        if isinstance(error, jax.errors.JaxRuntimeError) and jax.process_count() > 1:
            # Another process died; `processes.lost_process_as_run_error` reports it.
            raise
        last = steps(directory)
        safe = (
            f"the latest checkpoint is {directory / str(last[-1])}"
            if last
            else "there is no earlier checkpoint"
        )
        raise RunError(
            f"cannot save the checkpoint of step {step} in {directory}: "
            f"{_first_line(error)} ({safe})"
        ) from error


def restore(directory: pathlib.Path, step: int, like: PyTree) -> PyTree:
    """Returns the state saved at a step.

    Args:
        directory: folder of the run's checkpoints.
        step: one of `steps(directory)`.
        like: tree of arrays, or of jax.ShapeDtypeStruct with shardings, that gives
            the structure, shapes, dtypes and shardings of the result.

    Raises:
        RunError: a file is missing or damaged, or belongs to another network.
    """
    folder = directory / str(step)
    _verify(folder)
    try:
        with _quiet():
            return ocp.load(folder.resolve(), like, checkpointable_name=_NAME)
    except Exception as error:
        raise RunError(
            f"cannot load the checkpoint {folder}: {_first_line(error)}"
        ) from error


def newest(directory: pathlib.Path) -> int | None:
    """Returns the step of the newest intact checkpoint, or None without checkpoints.

    For every newer checkpoint that is skipped, a warning on stderr gives the reason.

    Raises:
        RunError: there are checkpoints, but all of them are damaged.
    """
    problem = None
    for step in reversed(steps(directory)):
        try:
            _verify(directory / str(step))
        except RunError as error:
            problem = error
            console.warn(f"{error}; using the previous one instead")
        else:
            return step
    if problem is not None:
        raise RunError(f"no checkpoint in {directory} can be used: {problem}")
    return None


def _verify(folder: pathlib.Path) -> None:
    """Raises RunError unless a checkpoint's files match its checksums exactly."""
    damaged = f"checkpoint {folder} is damaged"
    try:
        listed = _read_sums(folder)
        present = {p.relative_to(folder).as_posix(): p for p in _files(folder)}
        for name in sorted(listed.keys() | present.keys()):
            if name not in present:
                raise RunError(f"{damaged}: {name} is missing")
            if name not in listed:
                raise RunError(f"{damaged}: {name} is not in {_SUMS}")
            if _sha256(present[name]) != listed[name]:
                raise RunError(f"{damaged}: {name} has changed")
    except FileNotFoundError:
        raise RunError(f"{damaged}: it has no {_SUMS}") from None
    except OSError as error:
        raise RunError(
            f"checkpoint {folder} cannot be read: {error.strerror}; do all processes "
            "share this folder?"
        ) from None


def _read_sums(folder: pathlib.Path) -> dict[str, str]:
    """Returns the listed SHA-256 checksums by file name."""
    path = folder / _SUMS
    if path.exists() and not path.is_file():
        raise RunError(f"checkpoint {folder} is damaged: {_SUMS} is not a file")
    listed = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if match is None:
            raise RunError(f"checkpoint {folder} is damaged: {_SUMS} is malformed")
        listed[match[2]] = match[1]
    return listed


def _write_sums(folder: pathlib.Path) -> None:
    sums = "".join(
        f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n"
        for path in _files(folder)
    )
    with (folder / _SUMS).open("w", encoding="utf-8", newline="\n") as file:
        file.write(sums)
        file.flush()
        os.fsync(file.fileno())


def _delete(directory: pathlib.Path, step: int) -> None:
    """Deletes a checkpoint without ever exposing a half-deleted one."""
    deleted = directory / _DELETED.format(step)
    with contextlib.suppress(FileNotFoundError):
        (directory / str(step)).rename(deleted)
        shutil.rmtree(deleted)


def _delete_leftovers(directory: pathlib.Path) -> None:
    for path in directory.iterdir():
        if _LEFTOVERS.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if not path.is_dir() and path != folder / _SUMS and not is_litter(path.name)
    )


def _sha256(path: pathlib.Path) -> str:
    if not path.is_file():  # Reading a FIFO would block forever.
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:300]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses Orbax's log lines, which describe only its internals."""
    before = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.FATAL)
    try:
        yield
    finally:
        absl_logging.set_verbosity(before)
