"""Checks of arguments, of settings, and of the options of registered choices."""

import math
import operator
import os
import pathlib
import re
import stat
import types
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np

from cifar_jax.errors import UserError

_ONE: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    bool: "True or False",
    str: "text",
    types.NoneType: "None",
}
_MANY: dict[Any, str] = {int: "integers", float: "numbers", str: "texts"}


def check_type(value: Any, name: str, kind: type) -> None:
    """Raises UserError unless the value is a `kind`, a class of this package."""
    if not isinstance(value, kind):
        raise UserError(
            f"{name} must be a cifar_jax.{kind.__name__}, not a {type(value).__name__}"
        )


def as_path(path: str) -> str:
    """Returns the path of a file or a folder, with ~ replaced by the home directory.

    Raises:
        ValueError: it is an address, such as gs://bucket/run.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", path):
        raise ValueError(
            f"{path} is an address; mount it (a bucket with gcsfuse or mount-s3, for "
            "example) or copy it, and pass the path on this machine"
        )
    return os.path.expanduser(path)  # noqa: PTH111


def check_regular_file(path: Any) -> pathlib.Path:
    """Returns the path of a file that can be read to its end.

    Raises:
        UserError: it is not a path, there is no such file, or it is not a regular file:
            a device may have no end, and a FIFO may never be written to.
    """
    try:
        file = pathlib.Path(path)
        mode = file.stat().st_mode
    except TypeError:
        raise UserError(f"path={path!r} must be the name of a file, as text") from None
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read: {reason}") from None
    if stat.S_ISDIR(mode):
        raise UserError(f"{path} is a directory, not a file of weights")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is not a regular file; copy its contents to a file")
    return file


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


def check_range(
    name: str,
    value: float | tuple[float, ...],
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> None:
    """Raises ValueError unless a number, or each in a tuple, is within the bounds."""
    for number in value if isinstance(value, tuple) else (value,):
        if at_least is not None and number < at_least:
            raise ValueError(f"{name}={value} must be at least {at_least}")
        if above is not None and number <= above:
            raise ValueError(f"{name}={value} must be above {above}")
        if at_most is not None and number > at_most:
            raise ValueError(f"{name}={value} must be at most {at_most}")
        if below is not None and number >= below:
            raise ValueError(f"{name}={value} must be below {below}")


def check_32_bits(name: str, value: Any) -> None:
    """Raises ValueError if an integer, or one in a tuple, has more than 32 bits.

    Devices compute with 32-bit integers.
    """
    for number in value if isinstance(value, tuple) else (value,):
        if type(number) is int and not -(2**31) <= number < 2**31:
            raise ValueError(f"{name}={value} must be from -2147483648 to 2147483647")


def as_kind(name: str, value: Any, kind: Any) -> Any:
    """Converts a value to its annotated type, such as `tuple[int, ...] | None`.

    NumPy numbers become Python numbers; paths become text; lists become tuples; and
    integers become floats where floats are expected. Annotations that are not built
    from numbers, bools, text, None, tuples and Literals allow anything.

    Raises:
        ValueError: the value has another type, is not finite, or is text that cannot be
            a file name.
    """
    if isinstance(value, str | os.PathLike) and "\0" in (text := os.fspath(value)):
        raise ValueError(f"{name}={text!r} contains the character \\0; remove it")
    is_union = get_origin(kind) in (types.UnionType, Union)
    kinds = get_args(kind) if is_union else (kind,)
    for one in kinds:
        try:
            return _convert(value, one)
        except TypeError:
            continue
        except OverflowError:
            raise ValueError(f"{name}={value} is not a finite number") from None
    wanted = " or ".join(map(_describe, kinds))
    raise ValueError(f"{name}={value!r} must be {wanted}")


def _convert(value: Any, kind: Any) -> Any:
    """Converts a value to a type that is not a union.

    Raises:
        TypeError: the value has another type.
        OverflowError: it is not finite.
    """
    if isinstance(value, np.generic):
        value = value.item()
    elif isinstance(value, os.PathLike):
        value = os.fspath(value)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise TypeError
        return value
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if not isinstance(value, list | tuple):
            raise TypeError
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(value)
        if len(value) != len(kinds):
            raise TypeError
        return tuple(map(_convert, value, kinds))
    if kind not in _ONE:
        return value
    if kind is float and type(value) is int:
        value = float(value)
    # In Python a bool is an integer; here it is not.
    if type(value) is not kind:
        raise TypeError
    if kind is float and not math.isfinite(value):
        raise OverflowError
    return value


def _describe(kind: Any) -> str:
    """Describes an annotation in words."""
    if get_origin(kind) is Literal:
        words = ", ".join(map(str, get_args(kind)))
        return f"one of {words}" if "," in words else words
    if get_origin(kind) is tuple:
        first, *rest = get_args(kind)
        count = "" if rest == [Ellipsis] else f"{1 + len(rest)} "
        return f"a list of {count}{_MANY.get(first, 'values')}"
    return _ONE.get(kind, str(kind))
