"""Saves and restores checkpoints with Orbax, which only this module uses.

    DIRECTORY/<step>/             Orbax's files
    DIRECTORY/<step>/run.json     the run and the step that the checkpoint belongs to
    DIRECTORY/<step>/SHA256SUMS   checksums of all these files

A checkpoint is written under a temporary name and renamed once it is complete. If its
files do not match its checksums, it was damaged later: Orbax by itself misses flipped
bits in the parameters and some missing files. If it names a different run or step,
somebody has put it there.
"""

import contextlib
import json
import pathlib
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import orbax.checkpoint.experimental.v1 as ocp
from absl import logging as absl_logging
from jaxtyping import PyTree

from cifar_jax import console
from cifar_jax.devices import processes
from cifar_jax.errors import RunError
from cifar_jax.runs import checksums

# As many as the tutorial's `tf.train.Saver` keeps.
KEPT = 5
_RECORD = "run.json"
_ORBAX = threading.Lock()
_NAME = "state"  # The name of the only tree in a checkpoint.
_STEP = re.compile(r"0|[1-9][0-9]*")
# Checkpoints being written or deleted; leftovers of a killed run are deleted too.
_PARTIAL, _DELETED = ".{}.partial", ".{}.deleted"
_LEFTOVERS = re.compile(r"\.[0-9]+\.(partial|deleted)\b.*")


def named_steps(directory: pathlib.Path) -> list[int]:
    """Returns the steps of all checkpoint folders, oldest first.

    Damaged checkpoints and those of other runs are included.
    """
    if not directory.is_dir():
        return []
    return sorted(
        int(path.name)
        for path in directory.iterdir()
        if _STEP.fullmatch(path.name) and path.is_dir()
    )


def steps(directory: pathlib.Path, run_id: str | None = None) -> list[int]:
    """Returns the steps of a run's checkpoints, oldest first, including damaged ones.

    Args:
        directory: folder of the run's checkpoints.
        run_id: ID of the run, or None for any run.
    """
    return [
        step
        for step in named_steps(directory)
        if _stranger(directory / str(step), run_id) is None
    ]


def save(
    directory: pathlib.Path,
    step: int,
    state: PyTree,
    run_id: str | None = None,
    kept: int | None = KEPT,
    **facts: int,
) -> None:
    """Writes the checkpoint of a step, and deletes old ones.

    Every process of a run must call it, with the same folder. An existing checkpoint
    of the same step is replaced. Of the others, only those that the run could be
    resumed from are counted and deleted.

    Args:
        directory: folder of the run's checkpoints.
        step: the step of the state.
        state: a tree of arrays.
        run_id: ID of the run.
        kept: how many of the newest checkpoints to keep, up to this step; 1 keeps only
            this one, and None all.
        **facts: more details to record with the checkpoint; see `facts`.

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
            record = {"run": run_id, "step": step, **facts}
            (partial / _RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")
            checksums.write(partial)
            _delete(directory, step)
            partial.rename(directory / str(step))
    except Exception as error:  # Orbax propagates whatever its storage raises.
        if isinstance(error, jax.errors.JaxRuntimeError) and jax.process_count() > 1:
            # Another process died; `processes.lost_process_as_run_error` reports it.
            raise
        raise RunError(
            f"cannot save the checkpoint of step {step} in {directory}: "
            f"{_first_line(error)} ({_latest(directory, run_id)})"
        ) from error
    if kept is not None and processes.is_main():
        _prune(directory, step, run_id, kept)


def restore(
    directory: pathlib.Path, step: int, like: PyTree, run_id: str | None = None
) -> PyTree:
    """Returns the state saved at a step.

    Args:
        directory: folder of the run's checkpoints.
        step: one of `steps(directory)`.
        like: tree of arrays, or of jax.ShapeDtypeStruct with shardings, that gives
            the structure, shapes, dtypes and shardings of the result.
        run_id: ID of the run, or None for any run.

    Raises:
        RunError: a file is missing or damaged, or belongs to another network, run or
            step.
    """
    folder = directory / str(step)
    _verify(folder, run_id)
    try:
        with _quiet():
            state = ocp.load(folder.resolve(), like, checkpointable_name=_NAME)
    except Exception as error:
        raise RunError(
            f"cannot load the checkpoint {folder}: {_first_line(error)}"
        ) from error
    # Checkpoints from earlier versions do not record their step.
    if (saved := getattr(state, "step", step)) != step:
        raise RunError(_other_step(folder, int(saved)))
    return state


def newest_step(directory: pathlib.Path, run_id: str | None = None) -> int | None:
    """Returns the step of the newest usable checkpoint, or None without checkpoints.

    For every newer checkpoint that is skipped, a warning on stderr gives the reason.

    Args:
        directory: folder of the run's checkpoints.
        run_id: ID of the run, or None for any run.

    Raises:
        RunError: there are checkpoints, but none of them can be used.
    """
    problem = None
    for step in reversed(named_steps(directory)):
        try:
            _verify(directory / str(step), run_id)
        except RunError as error:
            problem = error
            console.warn(f"{error}; using the previous one instead")
        else:
            return step
    if problem is not None:
        raise RunError(f"no checkpoint in {directory} can be used: {problem}")
    return None


def facts(directory: pathlib.Path, step: int) -> dict[str, Any]:
    """Returns the details that `save` recorded; empty if there is no usable record."""
    return dict(_record(directory / str(step)) or {})


def _verify(folder: pathlib.Path, run_id: str | None) -> None:
    """Raises RunError unless a run could be resumed from a checkpoint."""
    checksums.verify(folder, "checkpoint")
    if (reason := _stranger(folder, run_id)) is not None:
        raise RunError(reason)


def _stranger(folder: pathlib.Path, run_id: str | None) -> str | None:
    """Returns why a checkpoint belongs to another run or step, or None."""
    record = _record(folder)
    if record is None:
        return None
    if record.get("step") != int(folder.name):
        return _other_step(folder, record.get("step"))
    if run_id is not None and record.get("run") not in (None, run_id):
        return f"checkpoint {folder} belongs to another run; move it elsewhere"
    return None


def _other_step(folder: pathlib.Path, step: Any) -> str:
    return f"checkpoint {folder} is from step {step}; rename it to {step}, or delete it"


def _record(folder: pathlib.Path) -> Mapping[str, Any] | None:
    """Returns the contents of run.json, or None if it is missing or damaged."""
    path = folder / _RECORD
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if path.is_file():  # Reading a FIFO would block forever.
            record = json.loads(path.read_text(encoding="utf-8"))
            return record if isinstance(record, dict) else None
    return None


def _prune(directory: pathlib.Path, step: int, run_id: str | None, kept: int) -> None:
    """Deletes the checkpoints that `save` does not keep; a failure loses nothing."""
    try:
        others = [s for s in steps(directory, run_id) if s != step]
        if kept > 1:
            others = [s for s in others if s < step]
        if len(others) < kept:
            return
        usable = [s for s in others if _is_usable(directory / str(s), run_id)]
        for old in usable[: len(usable) - (kept - 1)]:
            _delete(directory, old)
    except OSError as error:
        console.warn(f"cannot delete an old checkpoint: {error}")


def _is_usable(folder: pathlib.Path, run_id: str | None) -> bool:
    try:
        _verify(folder, run_id)
    except RunError:
        return False
    return True


def _delete(directory: pathlib.Path, step: int) -> None:
    """Deletes a checkpoint without ever exposing a half-deleted one."""
    folder, deleted = directory / str(step), directory / _DELETED.format(step)
    if folder.is_symlink():  # What it points to is not ours.
        folder.unlink()
    elif folder.exists():
        folder.rename(deleted)
        shutil.rmtree(deleted)


def _delete_leftovers(directory: pathlib.Path) -> None:
    for path in directory.iterdir():
        if _LEFTOVERS.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _latest(directory: pathlib.Path, run_id: str | None) -> str:
    try:
        last = steps(directory, run_id)
    except OSError:
        return "earlier checkpoints are unchanged"
    if not last:
        return "there is no earlier checkpoint"
    return f"the latest checkpoint is {directory / str(last[-1])}"


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:300]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses Orbax's log lines, which describe only its internals.

    The level is that of all threads, which therefore use Orbax one at a time.
    """
    with _ORBAX:
        before = absl_logging.get_verbosity()
        absl_logging.set_verbosity(absl_logging.FATAL)
        try:
            yield
        finally:
            absl_logging.set_verbosity(before)
