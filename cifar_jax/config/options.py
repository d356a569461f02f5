"""Dataclass fields that are flags as well: their help, defaults and ranges."""

import dataclasses
import itertools
import math
import os
import types
from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args, get_origin

import numpy as np

from cifar_jax.errors import UserError
from cifar_jax.registry import (
    Registry,
    canonical,
    check_range,
    resolve,
    resolve_all,
)

# The value of a field that was not set.
NOT_GIVEN: Any = object()


def option(
    default: Any,
    help: str,
    *,
    choices: Collection[Any] | None = None,
    registry: Registry | None = None,
    listed: bool = False,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    fixed: bool = False,
) -> Any:
    """Returns a dataclass field with what its flag needs to know.

    Args:
        default: the value that the tutorial has; a recipe may set another one.
        help: of the flag.
        choices: the possible values; they may grow later, as a registry does.
        registry: the names that a text can contain, with options, see
            `cifar_jax.registry`.
        listed: whether such a text is a list of names, not exactly one.
        at_least: the lowest value.
        above: the bound that values must exceed.
        at_most: the highest value.
        fixed: whether the value decides the numbers of a run, so that the run can only
            be resumed with the same one.
    """
    metadata = {
        "default": default,
        "help": help,
        "choices": choices,
        "registry": registry,
        "listed": listed,
        "at_least": at_least,
        "above": above,
        "at_most": at_most,
        "fixed": fixed,
    }
    return dataclasses.field(default=NOT_GIVEN, metadata=metadata)


def settled(field: dataclasses.Field, value: Any) -> Any:
    """Returns the value as the field's type, converted from NumPy, paths and lists.

    Raises:
        UserError: the value has another type, or is outside the field's range.
    """
    value = _converted(field, value)
    rules = field.metadata
    if rules["choices"] and value not in rules["choices"]:
        raise UserError(
            f"--{field.name}={value} is unknown; choose from "
            + ", ".join(map(str, rules["choices"]))
        )
    if rules["registry"]:
        parse = resolve_all if rules["listed"] else resolve
        parse(value, rules["registry"], field.name)
        return canonical(value, field.name)
    if isinstance(value, tuple):
        rising = all(a < b for a, b in itertools.pairwise((0, *value, 1)))
        if not rising:
            raise UserError(
                f"--{field.name}={','.join(map(str, value))} must rise from above 0 "
                "to below 1"
            )
    elif isinstance(value, int | float):
        _check_range(field.name, value, rules)
    return value


def _check_range(name: str, value: float, rules: Mapping[str, Any]) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"--{name}={value} is not a finite number")
    bounds = {bound: rules[bound] for bound in ("at_least", "above", "at_most")}
    try:
        check_range(f"--{name}", value, **bounds)
    except ValueError as error:
        raise UserError(str(error)) from None


def _converted(field: dataclasses.Field, value: Any) -> Any:
    kinds = _kinds(field.type)
    converted = _plain(value)
    if converted == "" and type(None) in kinds:
        return None
    if tuple in kinds and isinstance(value, list | tuple):
        numbers = [_plain(number) for number in value]
        if all(type(number) in (int, float) for number in numbers):
            return tuple(map(float, numbers))
    # In Python a bool is an integer; here it is not.
    elif type(converted) in kinds:
        return converted
    elif float in kinds and type(converted) is int:
        # Integers beyond the range of floats become infinite, and are refused as such.
        return float(converted) if abs(converted) < 2**1023 else math.inf
    wanted = " or ".join(_WORDS[kind] for kind in kinds)
    raise UserError(f"--{field.name}={value!r} must be {wanted}")


def _plain(value: Any) -> Any:
    """Converts NumPy scalars to Python numbers and paths to text."""
    if isinstance(value, np.generic):
        return value.item()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _kinds(annotation: Any) -> tuple[type, ...]:
    """Returns the types that an annotation allows."""
    if isinstance(annotation, types.UnionType):
        return get_args(annotation)
    origin = get_origin(annotation)
    if origin is Literal:
        return (type(get_args(annotation)[0]),)
    return (origin or annotation,)


_WORDS: dict[type, str] = {
    int: "an integer",
    float: "a number",
    bool: "True or False",
    str: "text",
    tuple: "a list of numbers",
    type(None): "None",
}
