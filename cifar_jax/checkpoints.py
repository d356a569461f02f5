"""Checkpoints of a run, by Orbax; nothing else in the package knows Orbax.

    DIRECTORY/<step>/             Orbax's files
    DIRECTORY/<step>/SHA256SUMS   written last, for `sha256sum -c SHA256SUMS` too

A checkpoint without that list was cut off while it was written, and one that
does not match it has been damaged since: Orbax by itself notices neither a
flipped bit in the parameters nor everything that is missing.
"""

import contextlib
import hashlib
import pathlib
import re
import sys
from collections.abc import Iterator

import jax
import orbax.checkpoint.experimental.v1 as ocp
from absl import logging as absl_logging
from jaxtyping import PyTree

from cifar_jax import parallel
from cifar_jax.errors import RunError
from cifar_jax.files import write_atomically

# As many as the tutorial's `tf.train.Saver` keeps.
KEPT = 5
_SUMS = "SHA256SUMS"


def steps(directory: pathlib.Path) -> list[int]:
    """Steps of the checkpoints that were written whole, oldest first."""
    return sorted(int(path.parent.name) for path in directory.glob(f"[0-9]*/{_SUMS}"))


def save(directory: pathlib.Path, step: int, state: PyTree) -> None:
    """Writes the checkpoint of a step; of the older ones the newest few are kept.

    Every process of a run calls it, with the same folder.

    Raises:
        RunError: it could not be written (a full disk, say).
    """
    keep = ocp.training.preservation_policies.LatestN(KEPT)
    try:
        with (
            _quiet(),
            ocp.training.Checkpointer(
                directory.resolve(),
                preservation_policy=keep,
                # What a killed run left half-written.
                cleanup_tmp_directories=True,
            ) as checkpointer,
        ):
            # Overwrites only what `newest` found cut off or damaged.
            checkpointer.save(step, state, force=True, overwrite=True)
        if parallel.is_first():
            folder = directory / str(step)
            sums = "".join(
                f"{_sha256(p)}  {p.relative_to(folder)}\n" for p in _files(folder)
            )
            write_atomically(folder / _SUMS, sums)
    except Exception as error:  # Orbax passes on whatever its storage raises.
        if isinstance(error, jax.errors.JaxRuntimeError) and jax.process_count() > 1:
            raise  # Another process has gone; `parallel.others_at_work` says so.
        last = steps(directory)
        safe = (
            f"the last good one is {directory / str(last[-1])}"
            if last
            else "there is none yet"
        )
        raise RunError(
            f"cannot save the checkpoint of step {step} in {directory}: "
            f"{_first_line(error)} ({safe})"
        ) from error


def restore(directory: pathlib.Path, step: int, like: PyTree) -> PyTree:
    """The state saved at a step.

    Args:
        directory: of the run's checkpoints.
        step: one of `steps(directory)`.
        like: a tree of arrays, or of jax.ShapeDtypeStruct with shardings, that
            says the structure, shapes, dtypes and places to load into.

    Raises:
        RunError: a file is missing, damaged, or is of another network.
    """
    folder = directory / str(step)
    _verify(folder)
    try:
        with _quiet():
            return ocp.load(folder.resolve(), like, checkpointable_name="state")
    except Exception as error:
        raise RunError(
            f"cannot load the checkpoint {folder}: {_first_line(error)}"
        ) from error


def newest(directory: pathlib.Path) -> int | None:
    """Step of the newest checkpoint that is whole; None if there are none at all.

    Says on stderr which newer ones were passed over, and why.

    Raises:
        RunError: there are checkpoints, but all of them are damaged.
    """
    problem = None
    for step in reversed(steps(directory)):
        try:
            _verify(directory / str(step))
        except RunError as error:
            problem = error
            print(f"warning: {error}; going back to the one before", file=sys.stderr)
        else:
            return step
    if problem is not None:
        raise RunError(f"no checkpoint in {directory} can be used: {problem}")
    return None


def _verify(folder: pathlib.Path) -> None:
    """Raises RunError unless every file of a checkpoint is as it was written."""
    try:
        sums = (folder / _SUMS).read_text(errors="replace")
    except OSError as error:
        raise RunError(
            f"checkpoint {folder} cannot be read: {error.strerror}; do all processes "
            "share this folder?"
        ) from None
    for line in sums.splitlines():
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if match is None:
            raise RunError(f"checkpoint {folder} is damaged: {_SUMS} is not a list")
        path = folder / match[2]
        if not path.is_file():
            raise RunError(f"checkpoint {folder} is damaged: {match[2]} is missing")
        if _sha256(path) != match[1]:
            raise RunError(f"checkpoint {folder} is damaged: {match[2]} has changed")


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != _SUMS)


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:300]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax's own log lines, which speak of its insides, off the terminal."""
    before = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.FATAL)
    try:
        yield
    finally:
        absl_logging.set_verbosity(before)
