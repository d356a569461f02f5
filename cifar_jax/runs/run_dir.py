"""The folder of a run: what it contains and who may write to it.

DIR/config.json      the config, the data and the versions of the run
DIR/checkpoints/     see checkpoints.py
DIR/train.jsonl      summaries, a line each; DIR/events.out.tfevents.* the same
DIR/eval/            of evaluations, unless --eval_dir says otherwise
DIR/.lock            held while a training writes to DIR
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Iterator
from typing import Any

import filelock

from cifar_jax import console
from cifar_jax.config.config import Config
from cifar_jax.config.conflicts import conflicts
from cifar_jax.data import Dataset
from cifar_jax.errors import UserError
from cifar_jax.runs import checkpoints
from cifar_jax.runs.files import write_atomically

_CONFIG = "config.json"
_LOCK = ".lock"
_CHECKSUM = "sha256"
_PACKAGES = ("cifar-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
# An evaluation that asks whether a training is at work holds the lock for an
# instant; a training that starts just then waits this long before it gives up.
_LOCK_SECS = 1.0


@dataclasses.dataclass(frozen=True)
class Run:
    """A run on disk.

    Attributes:
        path: its folder.
        config: as of its last start; `dataset` is never `auto` here.
        class_names: of the labels, in their order.
        image_shape: height, width and channels of the data's images.
        data_source: where the pixels came from, in words.
        data_fingerprint: SHA-256 of the pixels and labels.
    """

    path: pathlib.Path
    config: Config
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    data_source: str
    data_fingerprint: str

    @property
    def checkpoints(self) -> pathlib.Path:
        """The folder of the run's checkpoints."""
        return self.path / "checkpoints"


def of(config: Config, dataset: Dataset) -> Run:
    """The run of a config with a train_dir on a data set, on disk or not yet."""
    assert config.train_dir is not None
    path = pathlib.Path(config.train_dir)
    if config.data_dir is not None:
        # An evaluation may be started from another folder.
        data_dir = str(pathlib.Path(config.data_dir).expanduser().resolve())
        config = dataclasses.replace(config, data_dir=data_dir)
    return Run(
        path=path,
        config=config,
        class_names=dataset.class_names,
        image_shape=dataset.image_shape,
        data_source=dataset.source,
        data_fingerprint=dataset.fingerprint,
    )


def read(path: str | os.PathLike) -> Run:
    """The run in a folder.

    Raises:
        UserError: there is none, or its config cannot be read.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"path={path!r} must be the name of a folder")
    path = pathlib.Path(path)
    file = path / _CONFIG
    try:
        saved = _verified(file)
        data, names = saved["data"], {f.name for f in dataclasses.fields(Config)}
        known = {k: v for k, v in saved["config"].items() if k in names}
        return Run(
            path,
            Config(**known | {"train_dir": str(path)}),
            tuple(data["class_names"]),
            tuple(data.get("image_shape", (32, 32, 3))),
            data["source"],
            data["fingerprint"],
        )
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"no run in {path}: there is no {_CONFIG}; train first, "
            f"python -m cifar_jax.train --train_dir={path}"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    except UserError as error:
        raise UserError(f"{file} cannot be used: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise UserError(f"{file} is damaged: {reason}") from None


def exists(path: pathlib.Path) -> bool:
    """Whether a training has begun in the folder."""
    return (path / _CONFIG).is_file()


def settle_dataset(config: Config) -> Config:
    """`--dataset=auto` in the folder of a run means the data that it began with.

    Raises:
        UserError: the run in the folder cannot go on with this config.
    """
    if config.train_dir is None:
        return config
    run = _resumable(pathlib.Path(config.train_dir))
    if run is None:
        return config
    if config.dataset == "auto":
        config = dataclasses.replace(config, dataset=run.config.dataset)
    _refuse_conflicts(run, conflicts(run.config, config))
    return config


def identity(config: Config, dataset: Dataset) -> str:
    """What all processes of a run must have alike, as text.

    Folders are no part of it: a process may find them under other names.
    """
    settings = dataclasses.asdict(config)
    own = {"train_dir": config.train_dir is None, "data_dir": None}
    return f"{settings | own} {dataset.fingerprint}"


@contextlib.contextmanager
def claim(run: Run) -> Iterator[None]:
    """Locks the folder of a run for one training, new or resumed.

    Nothing in it changes: `write_config` is for when the training really goes on.

    Raises:
        UserError: the folder cannot be used, another training is at work there,
            or it holds a run that this config or data would not continue.
    """
    with _locked(run.path):
        saved = _resumable(run.path)
        if saved is not None:
            found = conflicts(saved.config, run.config)
            if saved.data_fingerprint != run.data_fingerprint:
                found.append(
                    f"pixels: {saved.data_source} there, {run.data_source} now"
                )
            _refuse_conflicts(saved, found)
        yield


def write_config(run: Run, dataset: Dataset) -> None:
    """Writes config.json, anew for a resumed run, which may have other --max_steps.

    Raises:
        UserError: it cannot be written.
    """
    record: dict[str, Any] = {
        "config": dataclasses.asdict(run.config),
        "data": {
            "name": dataset.name,
            "source": run.data_source,
            "official": dataset.official,
            "fingerprint": run.data_fingerprint,
            "class_names": run.class_names,
            "image_shape": run.image_shape,
            "train": len(dataset.train),
            "test": len(dataset.test),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in _PACKAGES},
        },
    }
    record[_CHECKSUM] = _checksum(record)
    try:
        write_atomically(run.path / _CONFIG, json.dumps(record, indent=2) + "\n")
    except OSError as error:
        raise UserError(
            f"cannot write to --train_dir={run.path}: {error.strerror}"
        ) from None


def is_training(path: pathlib.Path) -> bool:
    """Whether a training is at work in the folder at this moment, or may be.

    Where only others may write, that cannot be known.
    """
    if not (path / _LOCK).exists():
        return False
    try:
        with filelock.FileLock(path / _LOCK, timeout=0):
            return False
    except filelock.Timeout:
        return True
    except OSError:
        return True


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
    """Holds the lock of a folder, which is made; any death of the process frees it."""
    file = path / _LOCK
    try:
        path.mkdir(parents=True, exist_ok=True)
        held = filelock.FileLock(file, timeout=_LOCK_SECS).acquire()
    except filelock.Timeout:
        raise UserError(
            f"another training (process {_owner(file)}) is at work in "
            f"--train_dir={path}; wait for it or choose another --train_dir"
        ) from None
    except OSError as error:
        where = f" ({_LOCK})" if path.is_dir() else ""
        raise UserError(
            f"--train_dir={path}{where} cannot be used: {error.strerror or error}"
        ) from None
    with held:
        # Windows lets nobody write to a locked file; then others are told "unknown".
        with contextlib.suppress(OSError):
            file.write_text(f"{os.getpid()}\n", encoding="utf-8")
        yield


def _owner(file: pathlib.Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip() or "unknown"
    except OSError:
        return "unknown"


def _resumable(path: pathlib.Path) -> Run | None:
    """The run in a folder; None if it has no checkpoint, so that nothing is lost.

    Raises:
        UserError: there are checkpoints, but no config to say of what.
    """
    if not checkpoints.steps(path / "checkpoints"):
        return None
    if not exists(path):
        raise UserError(
            f"--train_dir={path} has checkpoints but no {_CONFIG}, so what run they "
            "belong to is unknown; choose another --train_dir"
        )
    return read(path)


def _refuse_conflicts(run: Run, found: list[str]) -> None:
    if found:
        raise UserError(
            f"--train_dir={run.path} holds another run ({'; '.join(found)}); "
            "give the same values to resume it, or choose another --train_dir"
        )


def _verified(file: pathlib.Path) -> dict[str, Any]:
    """What config.json says, which must be what was written unless it says so."""
    if file.exists() and not file.is_file():
        raise UserError("it is not a regular file")
    saved = json.loads(file.read_text(encoding="utf-8"))
    checksum = saved.pop(_CHECKSUM, None)
    if checksum is None:
        console.warn(f"{file} has no {_CHECKSUM}; it is used as it is")
    elif checksum != _checksum(saved):
        raise UserError(
            f"its {_CHECKSUM} does not match, so it is damaged or was edited; if you "
            f"edited it, delete its line {_CHECKSUM!r}"
        )
    return saved


def _checksum(record: dict[str, Any]) -> str:
    """SHA-256 of a record without its checksum, whatever its layout as text."""
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _version(package: str) -> str | None:
    """Of an installed package; None if it runs from a folder that is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
