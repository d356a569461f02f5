"""What a study varies: values to try, or ranges to draw from, for each setting.

A setting is a train flag, or a word in braces in one: --model="wrn(width={width})" with
--vary=width=1,2,4. A search starts from the value of the flag, or from the one in the
braces: {width=2}.
"""

import csv
import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from cifar_jax.config.config import Config
from cifar_jax.errors import UserError

# The text of each varied setting, as its flag takes it.
Setting = dict[str, str]
# For each setting, what it is drawn from.
Space = Mapping[str, BaseDistribution]

_RANGE = re.compile(r"(log|uniform|int)\(([^,()]+),([^,()]+)\)")
# What a study sets itself, and the flags for it; the last ones are the same for all
# runs, which are compared on the same images.
_RESERVED = {
    "train_dir": "study_dir",
    "seed": "seeds",
    **{name: name for name in ("dataset", "data_dir", "validation_size")},
}


def read(texts: Sequence[str], fixed: Mapping[str, str]) -> Space:
    """Returns what each setting is drawn from, given texts such as "batch_size=8,16".

    Args:
        texts: what to vary, each NAME=VALUE,VALUE,... or NAME=RANGE(LOW, HIGH).
        fixed: the texts of the other flags, in which a name may stand in braces.

    Raises:
        UserError: a text cannot be parsed, or a setting is unknown or named twice.
    """
    known = {field.name for field in dataclasses.fields(Config)}
    space: dict[str, BaseDistribution] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals:
            raise UserError(f"--vary={text} is not of the form SETTING=VALUES")
        if name in _RESERVED:
            raise UserError(f"--vary={text}: use --{_RESERVED[name]} for {name}")
        if name not in known and not _in_braces(name, fixed):
            raise UserError(
                f"--vary={text}: there is no setting {name!r}, and no flag with "
                f"{{{name}}} in its text; python -m cifar_jax.train --helpfull "
                "lists all settings"
            )
        if name in space:
            raise UserError(f"--vary={text}: {name} is named twice; name it once")
        space[name] = _distribution(f"--vary={text}", values)
    return space


def _distribution(given: str, text: str) -> BaseDistribution:
    if found := _RANGE.fullmatch(text.replace(" ", "")):
        return _range(given, *found.groups())
    return CategoricalDistribution(_values(given, text))


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
    if len(set(values)) < len(values):
        raise UserError(f"{given} has a value twice; write it once")
    return values


def _range(given: str, kind: str, *bounds: str) -> BaseDistribution:
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
    if kind == "int":
        return IntDistribution(int(low), int(high))
    return FloatDistribution(low, high, log=kind == "log")


def is_grid(space: Space) -> bool:
    """Returns whether there are finitely many settings, each of which can be tried."""
    return all(isinstance(d, CategoricalDistribution) for d in space.values())


def grid(space: Space) -> list[Setting]:
    """Returns all combinations of the values, in which the last setting varies fastest.

    A space without settings has a single one, which is empty.
    """
    choices = [
        d.choices for d in space.values() if isinstance(d, CategoricalDistribution)
    ]
    return [
        dict(zip(space, map(str, values), strict=True))
        for values in itertools.product(*choices)
    ]


def corners(space: Space) -> list[Setting]:
    """Returns a setting in which all are at their first value, and one for each other.

    The values of a range are its ends.
    """
    ends: dict[str, list[str]] = {}
    for name, distribution in space.items():
        match distribution:
            case CategoricalDistribution():
                values = distribution.choices
            case FloatDistribution() | IntDistribution():
                values = (distribution.low, distribution.high)
        ends[name] = [as_text(distribution, value) for value in values]
    first = {name: texts[0] for name, texts in ends.items()}
    others = [
        first | {name: text} for name, texts in ends.items() for text in texts[1:]
    ]
    return [first, *others]


def as_text(distribution: BaseDistribution, value: object) -> str:
    """Returns a drawn value as text, with six digits, which keep names readable."""
    if not isinstance(distribution, FloatDistribution):
        return str(value)
    rounded = float(f"{value:.6g}")
    return str(min(max(rounded, distribution.low), distribution.high))


def as_value(distribution: BaseDistribution, text: str) -> object | None:
    """Returns the value that a text stands for; None if it is not in the range."""
    try:
        match distribution:
            case IntDistribution():
                value: object = int(text)
            case FloatDistribution():
                value = float(text)
            case _:
                value = text
        return (
            value
            if distribution._contains(distribution.to_internal_repr(value))
            else None
        )
    except ValueError:
        return None


def starts(space: Space, fixed: Mapping[str, str]) -> Setting:
    """Returns the values from which a search starts, where the other flags have them.

    Args:
        space: what is varied.
        fixed: the texts of the other flags.

    Raises:
        UserError: a value is not in its range, or there are two for the same setting.
    """
    found = {}
    for name, distribution in space.items():
        given = _in_braces(name, fixed)
        texts = {text for text in given if text} if given else {fixed.get(name, "")}
        if len(texts) > 1:
            both = " and ".join(f"{{{name}={text}}}" for text in sorted(texts))
            raise UserError(f"{both} differ; a search starts from one of them")
        for text in filter(None, texts):
            if as_value(distribution, text) is None:
                raise UserError(
                    f"--vary={name}=...: {text}, where another flag starts the search, "
                    "is not among its values; change one of them"
                )
            found[name] = text
    return found


def _braces(name: str) -> re.Pattern[str]:
    return re.compile(rf"{{{re.escape(name)}(?:=([^{{}}]*))?}}")


def _in_braces(name: str, fixed: Mapping[str, str]) -> list[str]:
    """Returns the values with which a name stands in braces; empty ones for none."""
    return [text for given in fixed.values() for text in _braces(name).findall(given)]


def flags(setting: Setting, fixed: Mapping[str, str]) -> dict[str, str]:
    """Returns the texts of the train flags of a setting.

    Args:
        setting: the varied settings.
        fixed: the texts of the flags that all runs share.
    """
    found = dict(fixed)
    for name, text in setting.items():
        if _in_braces(name, found):
            found = {flag: _fill(given, name, text) for flag, given in found.items()}
        else:
            found[name] = text
    return found


def _fill(given: str, name: str, text: str) -> str:
    return _braces(name).sub(lambda _: text, given)
