"""What defines a run: one frozen dataclass, from which the train flags are made."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, get_args

from absl import flags

from cifar_jax.data import sources
from cifar_jax.data_parallel import MODES
from cifar_jax.errors import UserError
from cifar_jax.models import MODELS
from cifar_jax.ops import Implementation


def _option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    fixed: bool = False,
) -> Any:
    """A field with its flag's help and range.

    `fixed` ones decide what the numbers of a run are: a run is only ever resumed
    with the values it was started with.
    """
    metadata = {
        "help": help,
        "choices": choices,
        "at_least": at_least,
        "above": above,
        "at_most": at_most,
        "fixed": fixed,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Config:
    """Every setting of a training run; the defaults are the tutorial's.

    Raises:
        UserError: a value is outside its range.
    """

    max_steps: int = _option(
        1_000_000, "Train until this step.", at_least=1, at_most=2**31 - 1
    )
    batch_size: int = _option(
        128,
        "Images in one training step, over all devices together.",
        at_least=1,
        fixed=True,
    )
    train_dir: str | None = _option(
        "cifar10_train",
        "Folder of the run: checkpoints, config, log, summaries. A run that lies "
        "there is resumed.",
    )
    dataset: str = _option(
        "auto",
        "cifar10; digits (a small stand-in that needs no download); or auto: "
        "cifar10, and digits only if that is neither on disk nor reachable.",
        choices=sources.NAMES,
        fixed=True,
    )
    data_dir: str | None = _option(
        None,
        "Folder with the prepared data set, or with one of the official CIFAR-10 "
        "archives. Default: $TFDS_DATA_DIR, or ~/tensorflow_datasets.",
    )
    validation_size: int = _option(
        0,
        "Hold this many training images out, for eval --eval_data=validation.",
        at_least=0,
        fixed=True,
    )
    model: str = _option("tutorial", "The network.", choices=tuple(MODELS), fixed=True)
    use_fp16: bool = _option(
        False,
        "Round the operands of convolutions and dense layers to bfloat16; parameters, "
        "loss and averages stay float32.",
        fixed=True,
    )
    ops: Implementation = _option(  # noqa: RUF009 - it makes a field
        "auto",
        "How operations are computed: plain, by XLA's own; fast, by ways on which its "
        "CPU code is quicker; auto, fast on a CPU and plain elsewhere.",
        choices=get_args(Implementation),
        fixed=True,
    )
    num_devices: int | None = _option(
        None, "Use the first so many devices. Default: all.", at_least=1
    )
    data_parallel: str = _option(
        "jit",
        "How a step is spread over devices: jit, divided by XLA; shard_map or pmap, "
        "a program for each share of the batch.",
        choices=tuple(MODES),
    )
    seed: int = _option(
        0,
        "Of the initialisation, the order and the distortions.",
        at_least=0,
        at_most=2**32 - 1,
        fixed=True,
    )
    learning_rate: float = _option(
        0.1, "Learning rate at the start.", above=0, fixed=True
    )
    learning_rate_decay_factor: float = _option(
        0.1, "The learning rate is multiplied by this...", above=0, fixed=True
    )
    num_epochs_per_decay: float = _option(
        350.0, "...every this many epochs of 50,000 images.", above=0, fixed=True
    )
    weight_decay: float = _option(
        0.004, "Of the dense hidden layers, in the loss.", at_least=0, fixed=True
    )
    ema_decay: float = _option(
        0.9999,
        "Ceiling of the decay of the parameters' moving average.",
        at_least=0,
        at_most=1,
        fixed=True,
    )
    log_frequency: int = _option(
        10, "Print the loss every this many steps.", at_least=1
    )
    summary_frequency: int = _option(
        100, "Write summaries every this many steps.", at_least=1
    )
    save_interval_secs: float = _option(
        600.0, "Save a checkpoint every this many seconds.", at_least=0
    )
    log_device_placement: bool = _option(
        False, "Print where parameters, data and compiled code live."
    )
    profile: bool = _option(
        False,
        "Write a trace of some steps to TRAIN_DIR/profile, for XProf and Perfetto.",
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
        if self.profile and self.train_dir is None:
            raise UserError("--profile needs a --train_dir to write its trace to")

    @property
    def decay_steps(self) -> int:
        """Steps from one drop of the learning rate to the next.

        As in the tutorial, where an epoch is 50,000 images whatever the data set;
        136,718 at a batch size of 128.
        """
        return max(1, int(50_000 / self.batch_size * self.num_epochs_per_decay))


def _check(field: dataclasses.Field, value: Any) -> None:
    """Raises UserError unless value is in the field's range."""
    rules = field.metadata
    if rules["choices"] and value not in rules["choices"]:
        raise UserError(
            f"--{field.name}={value} is unknown; choose from "
            + ", ".join(rules["choices"])
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"--{field.name}={value} is not a finite number")
    if value is None:
        return
    if rules["at_least"] is not None and value < rules["at_least"]:
        raise UserError(f"--{field.name}={value} must be at least {rules['at_least']}")
    if rules["above"] is not None and value <= rules["above"]:
        raise UserError(f"--{field.name}={value} must be above {rules['above']}")
    if rules["at_most"] is not None and value > rules["at_most"]:
        raise UserError(f"--{field.name}={value} must be at most {rules['at_most']}")


_DEFINE: dict[Any, Callable[..., Any]] = {
    int: flags.DEFINE_integer,
    int | None: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_boolean,
}


def define_flags() -> None:
    """Makes an absl flag of every field of Config."""
    for field in dataclasses.fields(Config):
        define = _DEFINE.get(field.type, flags.DEFINE_string)
        text = field.metadata["help"]
        if field.metadata["choices"]:
            text += f" Choices: {', '.join(field.metadata['choices'])}."
        define(field.name, field.default, text)


def from_flags() -> Config:
    """The Config of the parsed flags; an empty string means None.

    Raises:
        UserError: a value is outside its range.
    """
    values: dict[str, Any] = {}
    for field in _fields():
        value = flags.FLAGS[field.name].value
        values[field.name] = None if value == "" else value
    return Config(**values)


def conflicts(saved: Config, asked: Config) -> list[str]:
    """Where two configs cannot be the same run: `name: saved there, asked now`."""
    return [
        f"{field.name}: {getattr(saved, field.name)} there, "
        f"{getattr(asked, field.name)} now"
        for field in _fields()
        if field.metadata["fixed"]
        and getattr(saved, field.name) != getattr(asked, field.name)
    ]


def _fields() -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(Config)
