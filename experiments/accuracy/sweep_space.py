"""The settings of a sweep: grids and random draws for the train command."""

import csv
import dataclasses
import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from cifar_jax import Config, UserError, command, data, plugins
from cifar_jax.config import flags as config_flags
from experiments.accuracy.search_space import Range
from experiments.harness import machine

# Settings by name, as text for the train command's flags.
Point = dict[str, str]
# For each setting, a range or a list of texts to draw values from.
Space = Mapping[str, Range | list[str]]

_RANGE = re.compile(r"(log|uniform|int)\(([^,()]+),([^,()]+)\)")
# The sweep sets these itself; only the directory differs between runs.
_RESERVED = {"train_dir": "out_dir", "dataset": "dataset", "data_dir": "data_dir"}
_LONGEST_NAME = 120


def read_grid(texts: Sequence[str]) -> dict[str, list[str]]:
    """Returns the values of each setting, from texts such as "seed=0,1".

    Raises:
        UserError: a text cannot be parsed, or a setting is named twice.
    """
    return {
        name: _values(f"--grid={name}={values}", values)
        for name, values in _by_name("grid", texts).items()
    }


def read_space(texts: Sequence[str]) -> dict[str, Range | list[str]]:
    """Returns the range or values of each setting, from texts such as "seed=int(0,9)".

    Raises:
        UserError: a text cannot be parsed, or a setting is named twice.
    """
    space: dict[str, Range | list[str]] = {}
    for name, text in _by_name("random", texts).items():
        given = f"--random={name}={text}"
        if found := _RANGE.fullmatch(text.replace(" ", "")):
            space[name] = _range(given, *found.groups())
        else:
            space[name] = _values(given, text)
    return space


def _by_name(flag: str, texts: Sequence[str]) -> dict[str, str]:
    known = {field.name for field in dataclasses.fields(Config)}
    found: dict[str, str] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals:
            raise UserError(f"--{flag}={text} is not of the form SETTING=VALUES")
        if name in _RESERVED:
            raise UserError(
                f"--{flag}={text}: {name} is the same for all runs; pass it as "
                f"--{_RESERVED[name]}"
            )
        if name not in known:
            raise UserError(
                f"--{flag}={text}: there is no setting {name!r}; "
                "python -m cifar_jax.train --helpfull lists all settings"
            )
        if name in found:
            raise UserError(f"--{flag}={text}: {name} is named twice; name it once")
        found[name] = values
    return found


def _values(given: str, text: str) -> list[str]:
    """Returns comma-separated values; quoted ones may contain commas (CSV)."""
    try:
        row = next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise UserError(f"{given} is not a list of values: {error}") from None
    values = [value.strip() for value in row or [""]]
    for value in values:
        if value.count("(") != value.count(")"):
            raise UserError(
                f"{given}: {value!r} has unbalanced parentheses; put a value that "
                "contains a comma in double quotes"
            )
    return values


def _range(given: str, kind: str, *bounds: str) -> Range:
    numbers = "integers" if kind == "int" else "numbers"
    try:
        low, high = map(int if kind == "int" else float, bounds)
        usable = low < high and math.isfinite(high - low)
    except (ValueError, OverflowError):
        usable = False
    if not usable:
        raise UserError(f"{given} must have two {numbers}, the lower one first")
    if kind == "log" and low <= 0:
        raise UserError(f"{given} must be above 0, for logarithms to exist")
    return Range(low, high, is_log=kind == "log", is_integer=kind == "int")


def draw(space: Space, seed: int, number: int) -> Point:
    """Returns the settings of a trial, which depend only on the seed and its number."""
    places = np.random.default_rng([seed, number]).uniform(size=len(space))
    # The order of the flags makes no difference.
    return {
        name: _text(space[name], place)
        for name, place in zip(sorted(space), places.tolist(), strict=True)
    }


def _text(values: Range | list[str], place: float) -> str:
    """Returns the value at a position from 0 to 1."""
    if isinstance(values, list):
        return values[int(place * len(values))]
    value = values.value(place)
    if values.is_integer:
        return str(value)
    # Six digits are exact enough, and keep directory names readable.
    return str(min(max(float(f"{value:.6g}"), values.low), values.high))


def points(
    grid: Mapping[str, list[str]], space: Space, trials: int, seed: int
) -> list[list[Point]]:
    """Returns the settings of all runs: for each trial, those of the whole grid.

    Raises:
        UserError: the grid and the space have a setting in common.
    """
    if common := sorted(grid.keys() & space.keys()):
        raise UserError(f"{common[0]} is in both --grid and --random; remove one")
    rows = [
        dict(zip(grid, values, strict=True))
        for values in itertools.product(*grid.values())
    ]
    draws = [draw(space, seed, number) for number in range(trials)] if space else [{}]
    return [[drawn | row for row in rows] for drawn in draws]


def unique_runs(
    trials: Sequence[Sequence[Point]], configs: Mapping[str, Config]
) -> list[tuple[str, Point]]:
    """Returns the name and settings of each run; repeated draws are a single run.

    Args:
        trials: See `points`.
        configs: The config of each point, by `key`.

    Raises:
        UserError: two points of a grid are the same run.
    """
    found: dict[Config, tuple[int, Point]] = {}
    for number, trial in enumerate(trials):
        for point in trial:
            first, other = found.setdefault(configs[key(point)], (number, point))
            if first == number and other is not point:
                raise UserError(
                    f"{key(other)} and {key(point)} are the same run; leave one out"
                )
    return [
        (run_name(config, sorted(point)), point) for config, (_, point) in found.items()
    ]


def key(point: Point) -> str:
    """Returns the settings as one line of text."""
    return ", ".join(f"{name}={value}" for name, value in point.items())


def run_name(config: Config, names: Sequence[str]) -> str:
    """Returns the name of a run's directory, which depends only on its settings.

    It spells out the settings as far as file names allow; if that drops anything, a
    checksum of the settings is added.
    """

    def text(value: Any) -> str:
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

    exact = ",".join(f"{name}={text(getattr(config, name))}" for name in names)
    readable = re.sub(r"[^\w.,=+-]+", "-", exact, flags=re.ASCII)[:_LONGEST_NAME]
    if readable == exact:
        return exact
    return f"{readable.rstrip('-.')}~{hashlib.sha256(exact.encode()).hexdigest()[:8]}"


def check(
    fixed: Sequence[str],
    data_flags: Sequence[str],
    trials: Sequence[Sequence[Point]],
    imports: Sequence[str] = (),
) -> tuple[dict[str, Config], str, int]:
    """Returns the config of each point, by `key`; must run in its own process.

    Flags are parsed as in the train command, and the data is loaded, so that it is
    downloaded and prepared only once. Also returns the device, see `machine.device`,
    and the number of devices.

    Args:
        fixed: The flags shared by all runs.
        data_flags: The flags that choose the data.
        trials: See `points`.
        imports: See `cifar_jax.plugins.load`.

    Raises:
        UserError: a flag is unknown, or a value cannot be used.
    """
    plugins.load(imports)
    config_flags.define()
    _parse(fixed)
    for name in [*_RESERVED, *trials[0][0]]:
        if flags.FLAGS[name].present:
            raise UserError(
                f"--train_flags sets {name}, which the sweep sets itself; remove it"
            )
    configs: dict[str, Config] = {}
    for point in itertools.chain.from_iterable(trials):
        _parse([*fixed, *data_flags, *as_flags(point)])
        configs[key(point)] = config_flags.read()
    _load({_data(config): config for config in configs.values()}.values())
    return configs, machine.device(), machine.number_of_devices()


def as_flags(point: Point) -> list[str]:
    """Returns the flags of the train command for these settings."""
    return [f"--{name}={value}" for name, value in point.items()]


def _parse(words: Sequence[str]) -> None:
    flags.FLAGS.unparse_flags()
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    try:
        command.refuse_arguments(flags.FLAGS(["train", *words])[1:])
    except (flags.Error, ValueError) as error:
        raise UserError(f"{error} (in --train_flags, --grid or --random)") from None


def _data(config: Config) -> tuple[Any, ...]:
    """Returns the settings that determine a run's data."""
    return config.validation_size, tuple(config.data_options.items())


def _load(configs: Iterable[Config]) -> None:
    for config in configs:
        loaded = data.load(
            config.dataset,
            config.data_dir,
            config.validation_size,
            **config.data_options,
        )
    command.print_banner(loaded.notice)
