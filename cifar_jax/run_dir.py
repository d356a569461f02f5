"""The folder of a run: what lies there, who may write to it.

DIR/config.json      the config, the data and the versions of the run
DIR/checkpoints/     see checkpoints.py
DIR/train.jsonl      summaries, a line each; DIR/events.out.tfevents.* the same
DIR/eval/            of evaluations, unless --eval_dir says otherwise
DIR/.lock            held while a training writes to DIR
"""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import os
import pathlib
import platform
import time
from collections.abc import Iterator
from typing import Any

from cifar_jax import config as config_lib
from cifar_jax.config import Config
from cifar_jax.data import Dataset
from cifar_jax.errors import UserError
from cifar_jax.files import write_atomically

_CONFIG = "config.json"
_LOCK = ".lock"
_PACKAGES = ("cifar-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
# An evaluation that asks whether a training is at work holds the lock for an
# instant; a training that starts just then waits this long before it gives up.
_LOCK_ATTEMPTS, _LOCK_PAUSE_SECS = 10, 0.1


@dataclasses.dataclass(frozen=True)
class Run:
    """A run on disk.

    Attributes:
        path: its folder.
        config: as of its last start; `dataset` is never `auto` here.
        class_names: of the labels, in their order.
        data_source: where the pixels came from, in words.
        data_fingerprint: SHA-256 of the pixels and labels.
    """

    path: pathlib.Path
    config: Config
    class_names: tuple[str, ...]
    data_source: str
    data_fingerprint: str

    @property
    def checkpoints(self) -> pathlib.Path:
        """The folder of the run's checkpoints."""
        return self.path / "checkpoints"


def read(path: str | os.PathLike) -> Run:
    """The run in a folder.

    Raises:
        UserError: there is none, or its config cannot be read.
    """
    path = pathlib.Path(path)
    file = path / _CONFIG
    try:
        saved = json.loads(file.read_text())
        names = {field.name for field in dataclasses.fields(Config)}
        known = {k: v for k, v in saved["config"].items() if k in names}
        return Run(
            path,
            Config(**known | {"train_dir": str(path)}),
            tuple(saved["data"]["class_names"]),
            saved["data"]["source"],
            saved["data"]["fingerprint"],
        )
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"no run in {path}: there is no {_CONFIG}; train first, "
            f"python -m cifar_jax.train --train_dir={path}"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is damaged: {error!r}") from None


def exists(path: pathlib.Path) -> bool:
    """Whether a training has begun in the folder."""
    return (path / _CONFIG).exists()


def settle_dataset(config: Config) -> Config:
    """`--dataset=auto` for a run that lies there means the data it began with.

    Raises:
        UserError: the run that lies there cannot go on with this config.
    """
    if config.train_dir is None:
        return config
    path = pathlib.Path(config.train_dir)
    if not exists(path):
        return config
    run = read(path)
    if config.dataset == "auto":
        config = dataclasses.replace(config, dataset=run.config.dataset)
    _refuse_conflicts(run, config_lib.conflicts(run.config, config))
    return config


def identity(config: Config, dataset: Dataset) -> str:
    """What all processes of a run must have alike, as text.

    Folders are no part of it: a process may find them under other names.
    """
    settings = dataclasses.asdict(config)
    own = {"train_dir": config.train_dir is None, "data_dir": None}
    return f"{settings | own} {dataset.fingerprint}"


@contextlib.contextmanager
def claim(path: str | os.PathLike, config: Config, dataset: Dataset) -> Iterator[Run]:
    """Opens a folder for one training, new or resumed, and locks it.

    Nothing that lies there is deleted. The config is written anew, since a resumed
    run may have another --max_steps, say.

    Raises:
        UserError: the folder cannot be used, another training is at work there,
            or it holds a run that this config or data would not continue.
    """
    if config.data_dir is not None:
        # An evaluation may be started from another folder.
        data_dir = str(pathlib.Path(config.data_dir).resolve())
        config = dataclasses.replace(config, data_dir=data_dir)
    path = pathlib.Path(path)
    run = Run(path, config, dataset.class_names, dataset.source, dataset.fingerprint)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / _LOCK).open("a+")
    except OSError as error:
        raise UserError(
            f"--train_dir={path} cannot be used: {error.strerror}"
        ) from None
    with lock:
        _lock(lock, path)
        if exists(path):
            saved = read(path)
            found = config_lib.conflicts(saved.config, config)
            if saved.data_fingerprint != run.data_fingerprint:
                found.append(
                    f"pixels: {saved.data_source} there, {run.data_source} now"
                )
            _refuse_conflicts(saved, found)
        elif run.checkpoints.exists():
            raise UserError(
                f"--train_dir={path} has checkpoints but no {_CONFIG}, so whose they "
                "are is unknown; choose another --train_dir"
            )
        try:
            write_atomically(path / _CONFIG, _to_json(config, dataset))
        except OSError as error:
            raise UserError(
                f"cannot write to --train_dir={path}: {error.strerror}"
            ) from None
        yield run


def is_training(path: pathlib.Path) -> bool:
    """Whether a training is at work in the folder at this moment."""
    try:
        with (path / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _lock(file: Any, path: pathlib.Path) -> None:
    """Locks the file until it is closed, by whatever death."""
    for _ in range(_LOCK_ATTEMPTS):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            return
        time.sleep(_LOCK_PAUSE_SECS)
    file.seek(0)
    raise UserError(
        f"another training (process {file.read().strip() or 'unknown'}) is at work in "
        f"--train_dir={path}; wait for it or choose another --train_dir"
    )


def _refuse_conflicts(run: Run, found: list[str]) -> None:
    if found:
        raise UserError(
            f"--train_dir={run.path} holds another run ({'; '.join(found)}); "
            "give the same values to resume it, or choose another --train_dir"
        )


def _version(package: str) -> str | None:
    """Of an installed package; None if it runs from a folder that is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _to_json(config: Config, dataset: Dataset) -> str:
    record = {
        "config": dataclasses.asdict(config),
        "data": {
            "name": dataset.name,
            "source": dataset.source,
            "fingerprint": dataset.fingerprint,
            "class_names": dataset.class_names,
            "train": len(dataset.train),
            "test": len(dataset.test),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in _PACKAGES},
        },
    }
    return json.dumps(record, indent=2) + "\n"
