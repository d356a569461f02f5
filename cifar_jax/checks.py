"""Checks of the arguments of public functions."""

import operator
from typing import Any

from cifar_jax.errors import UserError


def check_type(value: Any, name: str, kind: type) -> None:
    """Raises UserError unless the value is a `kind`, a class of this package."""
    if not isinstance(value, kind):
        raise UserError(
            f"{name} must be a cifar_jax.{kind.__name__}, not a {type(value).__name__}"
        )


def check_integer(value: Any, name: str, at_least: int) -> int:
    """Returns the value as a Python integer; accepts NumPy integers, but not bools.

    Raises:
        UserError: the value is not an integer or is below `at_least`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise UserError(f"{name}={value!r} must be an integer")
    if number < at_least:
        raise UserError(f"{name}={number} must be at least {at_least}")
    return number
