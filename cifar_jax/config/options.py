"""Fields of a dataclass that are flags as well: their help, defaults and ranges."""

import dataclasses
import itertools
import math
import os
import types
from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args, get_origin

import numpy as np

from cifar_jax.errors import UserError

# The value of a field that nobody has set.
NOT_GIVEN: Any = object()


def option(
    default: Any,
    help: str,
    *,
    choices: Collection[Any] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    fixed: bool = False,
) -> Any:
    """A field with its flag's help and range; a recipe may set another default.

    `choices` may grow later, as a registry does. `fixed` ones decide what the numbers
    of a run are: a run is only ever resumed with the values it was started with.
    """
    metadata = {
        "default": default,
        "help": help,
        "choices": choices,
        "at_least": at_least,
        "above": above,
        "at_most": at_most,
        "fixed": fixed,
    }
    return dataclasses.field(default=NOT_GIVEN, metadata=metadata)


def settled(field: dataclasses.Field, value: Any) -> Any:
    """The value as one of the field's type: NumPy numbers, paths and lists converted.

    Raises:
        UserError: the value is of another type, or outside the field's range.
    """
    value = _converted(field, value)
    rules = field.metadata
    if rules["choices"] and value not in rules["choices"]:
        raise UserError(
            f"--{field.name}={value} is unknown; choose from "
            + ", ".join(map(str, rules["choices"]))
        )
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
    if rules["at_least"] is not None and value < rules["at_least"]:
        raise UserError(f"--{name}={value} must be at least {rules['at_least']}")
    if rules["above"] is not None and value <= rules["above"]:
        raise UserError(f"--{name}={value} must be above {rules['above']}")
    if rules["at_most"] is not None and value > rules["at_most"]:
        raise UserError(f"--{name}={value} must be at most {rules['at_most']}")


def _converted(field: dataclasses.Field, value: Any) -> Any:
    kinds = _kinds(field.type)
    converted = _plain(value)
    if converted == "" and type(None) in kinds:
        return None
    if tuple in kinds and isinstance(value, list | tuple):
        numbers = [_plain(number) for number in value]
        if all(type(number) in (int, float) for number in numbers):
            return tuple(map(float, numbers))
    # To Python a bool is an integer, but not to a person.
    elif type(converted) in kinds:
        return converted
    elif float in kinds and type(converted) is int:
        # Beyond the range of floats it is as good as infinite.
        return float(converted) if abs(converted) < 2**1023 else math.inf
    wanted = " or ".join(_WORDS[kind] for kind in kinds)
    raise UserError(f"--{field.name}={value!r} must be {wanted}")


def _plain(value: Any) -> Any:
    """NumPy's scalars as Python's, paths as text, and all else as it is."""
    if isinstance(value, np.generic):
        return value.item()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _kinds(annotation: Any) -> tuple[type, ...]:
    """The types that values of an annotation have."""
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
