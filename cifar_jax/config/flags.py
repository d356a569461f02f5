"""The train flags: made from the fields of Config, and read back into a Config."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from absl import flags

from cifar_jax.config.config import Config, default
from cifar_jax.config.recipes import RECIPES
from cifar_jax.data import DATASETS, RESERVED
from cifar_jax.errors import UserError
from cifar_jax.registry import signatures


class _CountParser(flags.IntegerParser):
    """Parses a whole number, or the word all."""

    syntactic_help = "a whole number or all"

    def convert(self, argument: Any) -> Any:
        if argument == "all":
            return argument
        try:
            return super().convert(argument)
        except ValueError:
            raise ValueError(f"{argument!r} is not {self.syntactic_help}") from None


def _define_count(name: str, default: int, help: str) -> None:
    serializer: flags.ArgumentSerializer[Any] = flags.ArgumentSerializer()
    flags.DEFINE(_CountParser(), name, default, help, serializer=serializer)


_DEFINE: dict[Any, Callable[..., Any]] = {
    int: flags.DEFINE_integer,
    int | None: flags.DEFINE_integer,
    int | Literal["all"]: _define_count,
    float: flags.DEFINE_float,
    float | None: flags.DEFINE_float,
    bool: flags.DEFINE_boolean,
    bool | None: flags.DEFINE_boolean,
    tuple[float, ...]: flags.DEFINE_list,
}


# Numbers with more digits than anyone reads.
_LONG = re.compile(r"\d+\.\d{7,}")
# Titles of the groups of settings, keyed by the first flag of each.
GROUPS = {
    "recipe": "Run",
    "dataset": "Data",
    "model": "Network and inputs",
    "num_devices": "Devices",
    "seed": "Loss and optimizer",
    "log_frequency": "Logging, metrics and checkpoints",
}


def define() -> None:
    """Defines an absl flag for every field of Config."""
    for field in dataclasses.fields(Config):
        define_flag = _DEFINE.get(field.type, flags.DEFINE_string)
        define_flag(field.name, field.metadata["default"], _help(field))


def read() -> Config:
    """Builds a Config from the parsed flags.

    Raises:
        UserError: a value is outside its range.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(Config):
        flag = flags.FLAGS[field.name]
        if flag.using_default_value:
            continue  # the recipe's
        value = flag.value
        if isinstance(value, list):
            value = _numbers(field.name, value)
        values[field.name] = value
    return Config(**values)


def parse(texts: Mapping[str, str]) -> Config:
    """Builds a Config from the texts of flags, whatever was passed to this process.

    Raises:
        UserError: a text cannot be parsed, or a value is outside its range.
    """
    values: dict[str, Any] = {}
    for name, text in texts.items():
        try:
            value = flags.FLAGS[name].parser.parse(text)
        except (ValueError, TypeError) as error:
            raise UserError(f"--{name}={text}: {error}") from None
        values[name] = _numbers(name, value) if isinstance(value, list) else value
    return Config(**values)


def _numbers(name: str, words: list[str]) -> tuple[float, ...]:
    try:
        return tuple(map(float, words))
    except ValueError:
        raise UserError(
            f"--{name}={','.join(words)} is not a list of numbers"
        ) from None


def _help(field: dataclasses.Field[Any]) -> str:
    text: str = field.metadata["help"]
    if field.name == "recipe":
        return text + "".join(
            f"\n- {name}: {recipe.summary}" for name, recipe in RECIPES.items()
        )
    if field.metadata["choices"]:
        text += f" Choices: {', '.join(field.metadata['choices'])}."
    if registry := field.metadata["registry"]:
        text += f" Choices: {signatures(registry, field.metadata['reserved'])}."
    if field.name == "dataset":
        described = signatures(DATASETS, RESERVED)
        text += f" Choices, with options that have their own flags: {described}."
    usual = field.metadata["default"]
    others = [
        f"{name} {format_value(default(field, name))}"
        for name in RECIPES
        if default(field, name) != usual
    ]
    if others:
        text += f" By recipe: {'; '.join(others)}."
    return _LONG.sub(lambda number: f"{float(number[0]):.6g}", text)


def format_value(value: Any) -> str:
    """Returns the value of a setting as text, as its flag takes it."""
    if isinstance(value, tuple):
        return ",".join(f"{number:.4g}" for number in value)
    return str(value) or '""'
