"""Dataclass fields that are also flags: their help, defaults and ranges."""

import collections
import dataclasses
import itertools
import textwrap
import types
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar, get_args

from cifar_jax.checks import as_kind, as_path, check_range
from cifar_jax.errors import UserError
from cifar_jax.registry import canonicalize, elements, resolve, resolve_all

Class = TypeVar("Class", bound=type)


class NotGiven:
    """The value of a field that was not set; it looks like the field's default."""

    def __init__(self, default: Any):
        self._default = default

    def __repr__(self) -> str:
        return repr(self._default)


def explain_fields(dataclass: Class) -> Class:
    """Appends the help of a dataclass's fields to its docstring."""
    lines = ["", "", "    Attributes:"]
    for field in dataclasses.fields(dataclass):
        default, text = field.metadata["default"], field.metadata["help"]
        whole = f"{field.name}: {text} Default: {default!r}."
        lines += textwrap.wrap(
            whole,
            width=88,
            initial_indent=" " * 8,
            subsequent_indent=" " * 12,
            break_on_hyphens=False,
        )
    assert dataclass.__doc__ is not None
    dataclass.__doc__ = dataclass.__doc__.rstrip() + "\n".join([*lines, "    "])
    return dataclass


def option(
    default: Any,
    help: str,
    *,
    choices: Collection[Any] | None = None,
    registry: Mapping[str, Callable[..., Any]] | None = None,
    listed: bool = False,
    reserved: Collection[str] = (),
    check: Callable[[str], object] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    path: bool = False,
    fixed: bool = False,
) -> Any:
    """Returns a dataclass field with metadata for its flag.

    Args:
        default: the tutorial's value; a recipe may set a different one.
        help: the flag's help text.
        choices: the allowed values; a collection that may grow later, such as a
            registry's keys.
        registry: the names that the value can contain, with options; see
            `cifar_jax.registry`.
        listed: whether the value is a list of names rather than exactly one.
        reserved: arguments of the registered classes that are not options.
        check: raises UserError if the value cannot be used; called instead of looking
            up its names.
        at_least: the lowest allowed value.
        above: the bound that the value must exceed.
        at_most: the highest allowed value.
        path: whether the value is the path of a file or a folder.
        fixed: whether the value affects the results of a run, so that the run can only
            be resumed with the same value.
    """
    metadata = {
        "default": default,
        "help": help,
        "choices": choices,
        "registry": registry,
        "listed": listed,
        "reserved": reserved,
        "check": check,
        "at_least": at_least,
        "above": above,
        "at_most": at_most,
        "path": path,
        "fixed": fixed,
    }
    return dataclasses.field(default=NotGiven(default), metadata=metadata)


def convert(field: dataclasses.Field[Any], value: Any) -> Any:
    """Returns the value as the field's type, converted from NumPy, paths and lists.

    Raises:
        UserError: the value has another type, or is outside the field's range.
    """
    flag, rules = f"--{field.name}", field.metadata
    if isinstance(value, str) and not value and types.NoneType in get_args(field.type):
        return None
    try:
        value = as_kind(flag, value, field.type)
        if isinstance(value, int | float):
            bounds = {bound: rules[bound] for bound in ("at_least", "above", "at_most")}
            check_range(flag, value, **bounds)
    except ValueError as error:
        raise UserError(str(error)) from None
    if rules["path"] and value is not None:
        try:
            return as_path(value)
        except ValueError as error:
            raise UserError(f"{flag}={error}") from None
    if rules["choices"] and value not in rules["choices"]:
        raise UserError(
            f"{flag}={value} is unknown; choose from "
            + ", ".join(map(str, rules["choices"]))
        )
    if rules["registry"]:
        if rules["check"]:
            rules["check"](value)
        else:
            parse = resolve_all if rules["listed"] else resolve
            parse(value, rules["registry"], field.name)
            for part, count in collections.Counter(elements(value, field.name)).items():
                if count > 1:
                    raise UserError(f"{flag}={value} lists {part} {count} times")
        return canonicalize(value, field.name)
    if isinstance(value, tuple):
        rising = all(a < b for a, b in itertools.pairwise((0, *value, 1)))
        if not rising:
            raise UserError(
                f"{flag}={','.join(map(str, value))} must increase from above 0 to "
                "below 1"
            )
    return value
