"""The directory of a run: what it contains and who may write to it.

DIR/config.json      config, data and versions of the run, and what it needs to import
DIR/checkpoints/     see checkpoints.py
DIR/best/            the checkpoint that --keep_best keeps
DIR/train.jsonl      summaries, one per line; also in DIR/events.out.tfevents.*
DIR/log.jsonl        the values in each log line
DIR/eval/            summaries of evaluations, unless --eval_dir is given
DIR/.lock            held while training writes to DIR
"""

import contextlib
import dataclasses
import os
import pathlib
import secrets
from collections.abc import Iterator
from typing import Any, NamedTuple

from cifar_jax import plugins
from cifar_jax.config.config import Config
from cifar_jax.config.conflicts import find_conflicts
from cifar_jax.data import Dataset
from cifar_jax.data.dataset import check_class_names
from cifar_jax.data.training_set import TrainingSet
from cifar_jax.errors import UserError
from cifar_jax.models import safetensors_files
from cifar_jax.runs import checkpoints, config_file, lock
from cifar_jax.writers import RunInfo


class Given(NamedTuple):
    """What fit() was given besides config and data, as text; None if it was not.

    Attributes:
        network: the network, see `models.describe`, in place of the config's.
        order: the order of the images, see `OwnOrder`, in place of fit()'s own.
        initial: the weights that the run started from, see `variables.describe`.
    """

    network: str | None = None
    order: str | None = None
    initial: str | None = None


NOTHING = Given()
# In place of what was not given, in messages.
_NOT_GIVEN = Given("that of --model", "fit()'s own", "none")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run on disk.

    Attributes:
        path: its directory.
        config: the config of its last start; `dataset` is never `auto` here.
        class_names: the name of each label, in order.
        image_shape: height, width and channels of the images.
        data_source: where the pixels came from, in words.
        data_fingerprint: SHA-256 of the pixels and labels.
        data_origin: see `Dataset.origin`.
        training_set: which of the images it trains on; None in runs that did not
            record it.
        given: what fit() was given besides config and data.
        value_range: see `Dataset`.
        id: identifies its checkpoints; None in old runs that did not record it, and in
            processes that write nothing.
    """

    path: pathlib.Path
    config: Config
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    data_source: str
    data_fingerprint: str
    training_set: TrainingSet | None = None
    given: Given = NOTHING
    value_range: tuple[float, float] | None = None
    id: str | None = None
    data_origin: str | None = None

    @property
    def test_fingerprint(self) -> str:
        """Identifies the test images; see `Dataset`."""
        return self.data_origin or self.data_fingerprint

    @property
    def checkpoints(self) -> pathlib.Path:
        """The directory of the run's checkpoints."""
        return self.path / "checkpoints"

    @property
    def evaluations(self) -> pathlib.Path:
        """The directory of evaluation results, unless --eval_dir is given."""
        return self.path / "eval"

    def info(self, start: int | None = None, is_training: bool = False) -> RunInfo:
        """Returns what writers are told about the run; see `RunInfo`."""
        config = dataclasses.asdict(self.config)
        return RunInfo(self.path, self.id, config, start, is_training)

    @property
    def best(self) -> pathlib.Path:
        """The directory of the checkpoint with the best validation precision."""
        return self.path / "best"


def from_config(config: Config, dataset: Dataset, given: Given = NOTHING) -> Run:
    """Returns the run of a config with a train_dir, whether or not it is on disk yet.

    Args:
        config: config of the run.
        dataset: data set of the run.
        given: what fit() was given besides them.
    """
    assert config.train_dir is not None
    path = pathlib.Path(config.train_dir)
    if config.data_dir is not None:
        # An evaluation may be started in another directory.
        data_dir = str(pathlib.Path(config.data_dir).expanduser().resolve())
        config = dataclasses.replace(config, data_dir=data_dir)
    return Run(
        path=path,
        config=config,
        class_names=dataset.class_names,
        image_shape=dataset.image_shape,
        data_source=dataset.source,
        data_fingerprint=dataset.fingerprint,
        training_set=TrainingSet.from_dataset(dataset),
        given=given,
        value_range=dataset.value_range,
        id=secrets.token_hex(16),
        data_origin=dataset.origin,
    )


def read(path: str | os.PathLike[str]) -> Run:
    """Returns the run in a directory.

    Raises:
        UserError: there is none, or its config cannot be read.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"path={path!r} must be the name of a directory")
    path = pathlib.Path(path)
    if (weights := safetensors_files.find_in_export(path)) is not None:
        raise UserError(
            f"{path} is an export, not a run; pass --weights={weights} to predict or "
            f"demo, or --init_from={weights} to train"
        )
    file = path / config_file.NAME
    with config_file.explain_unreadable(file):
        saved = config_file.read(file)
        imports = {str(k): str(v) for k, v in saved.get("imports", {}).items()}
    plugins.check(imports)
    with config_file.explain_unreadable(file):
        data = saved["data"]
        check_class_names(tuple(data["class_names"]), "class_names")
        return Run(
            path,
            Config(**_tuples(saved["config"]) | {"train_dir": str(path)}),
            tuple(data["class_names"]),
            tuple(data["image_shape"]),
            data["source"],
            data["fingerprint"],
            _training_set(data),
            Given(*map(saved.get, Given._fields)),
            _value_range(data),
            saved.get("id"),
            data.get("origin"),
        )


def exists(path: pathlib.Path) -> bool:
    """Returns whether training has started in the directory."""
    try:
        return (path / config_file.NAME).is_file()
    except OSError:  # whoever reads the folder reports what is wrong with it
        return False


def settle_dataset(config: Config) -> Config:
    """Replaces `--dataset=auto` with the data set of the run to resume.

    Raises:
        UserError: the run in the directory cannot be resumed with this config.
    """
    if config.train_dir is None:
        return config
    run = _resumable(pathlib.Path(config.train_dir))
    if run is None:
        return config
    if config.dataset == "auto":
        config = dataclasses.replace(config, dataset=run.config.dataset)
    known = run.training_set
    asked = config.for_images(known.train) if known is not None else config
    _refuse_conflicts(run, find_conflicts(run.config, asked))
    return config


def identity(config: Config, dataset: Dataset, given: Given) -> str:
    """Returns everything that must be equal in all processes of a run, as text.

    It does not include directories, which may have other names in other processes.
    """
    settings = dataclasses.asdict(config)
    own = {"train_dir": config.train_dir is None, "data_dir": None}
    images = f"{dataset.fingerprint} {TrainingSet.from_dataset(dataset)}"
    return f"{settings | own} {images} {given}"


@contextlib.contextmanager
def claim(run: Run) -> Iterator[Run]:
    """Locks the directory of a run for training, from the start or resumed.

    Nothing in it changes: `write_config` is called when training starts. Yields the
    run, with the id of the run that it resumes.

    Raises:
        UserError: the directory cannot be used, another training run is using it, or
            it contains a run that cannot be continued with this config or data.
    """
    with lock.hold(run.path):
        saved = _resumable(run.path)
        if saved is not None:
            found = find_conflicts(saved.config, run.config)
            if saved.data_fingerprint != run.data_fingerprint:
                found.append(f"data: {saved.data_source} there, {run.data_source} now")
            found += _other_parts(saved.given, run.given)
            found += _other_images(saved.training_set, run.training_set)
            _refuse_conflicts(saved, found)
            given = run.given._replace(initial=saved.given.initial)
            run = dataclasses.replace(run, id=saved.id or run.id, given=given)
        yield run


def write_config(run: Run, dataset: Dataset) -> None:
    """Writes config.json, also when resuming, as --max_steps may be different.

    Raises:
        UserError: it cannot be written.
    """
    contents = {
        "id": run.id,
        "config": dataclasses.asdict(run.config),
        **run.given._asdict(),
        "imports": plugins.find_used(_names(run.config)),
        "data": {
            "name": dataset.name,
            "source": run.data_source,
            "official": dataset.official,
            "fingerprint": run.data_fingerprint,
            "origin": run.data_origin,
            "class_names": run.class_names,
            "image_shape": run.image_shape,
            "value_range": run.value_range,
            **TrainingSet.from_dataset(dataset)._asdict(),
            "test": len(dataset.test),
        },
    }
    config_file.write(run.path, contents)


def _resumable(path: pathlib.Path) -> Run | None:
    """Returns the run in a directory, or None if there is no checkpoint to resume.

    Raises:
        UserError: there are checkpoints but no config, or there is a config.json that
            does not belong to a run and would be overwritten.
    """
    if not checkpoints.named_steps(path / "checkpoints"):
        config_file.refuse_foreign(path)
        return None
    if not exists(path):
        raise UserError(
            f"--train_dir={path} has checkpoints but no {config_file.NAME}, so their "
            "run is unknown; choose another --train_dir"
        )
    return read(path)


def _training_set(data: dict[str, Any]) -> TrainingSet | None:
    """Returns the training set that config.json records, or None."""
    if "train_labels" not in data:
        return None
    return TrainingSet(**{name: data[name] for name in TrainingSet._fields})


def _value_range(data: dict[str, Any]) -> tuple[float, float] | None:
    """Returns the values that became 0 and 255, or None if they are not recorded."""
    if data.get("value_range") is None:
        return None
    low, high = map(float, data["value_range"])
    return low, high


def _other_parts(saved: Given, asked: Given) -> Iterator[str]:
    """Yields the differences; a run can be resumed without its initial weights."""
    both = zip(Given._fields, saved, asked, _NOT_GIVEN, strict=True)
    for name, there, now, otherwise in both:
        if there != now and (name, now) != ("initial", None):
            way_out = "; leave it out to resume" if name == "initial" else ""
            yield f"{name}: {there or otherwise} there, {now or otherwise} now{way_out}"


def _other_images(
    saved: TrainingSet | None, asked: TrainingSet | None
) -> Iterator[str]:
    """Yields the known differences between two training sets."""
    if saved is None or asked is None:
        return
    words = (
        *("training images", "validation images"),
        *("SHA-256 of the training labels", "SHA-256 of the extra arrays"),
    )
    for word, there, now in zip(words, saved, asked, strict=True):
        if there != now:
            yield f"{word}: {there or 'none'} there, {now or 'none'} now"


def _refuse_conflicts(run: Run, found: list[str]) -> None:
    if found:
        raise UserError(
            f"--train_dir={run.path} holds another run ({'; '.join(found)}); "
            "pass the same values to resume it, or choose another --train_dir"
        )


def _names(config: Config) -> list[str]:
    """Returns the settings that can name something registered, which excludes paths."""
    fields = dataclasses.fields(config)
    return [getattr(config, field.name) for field in fields if field.type is str]


def _tuples(config: dict[str, Any]) -> dict[str, Any]:
    """Returns settings with tuples in place of JSON's lists."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
