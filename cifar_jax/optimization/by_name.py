"""Functions of optax by name, whose options are checked by their signatures."""

import difflib
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax

from cifar_jax.checks import as_kind, check_32_bits


def find(
    name: str, functions: Mapping[str, Callable[..., Any]], what: str
) -> Callable[..., Any]:
    """Returns the function with this name.

    Args:
        name: its name in optax.
        functions: the functions to choose from.
        what: what they are, for the message.

    Raises:
        ValueError: there is no such function; the message lists all names.
    """
    if name in functions:
        return functions[name]
    close = difflib.get_close_matches(name, functions, n=1)
    guess = f" (did you mean {close[0]}?)" if close else ""
    raise ValueError(
        f"optax has no {what} {name}{guess}; choose from {', '.join(functions)}"
    )


def check_options(
    function: Callable[..., Any],
    options: Mapping[str, Any],
    set_elsewhere: Mapping[str, str],
) -> dict[str, Any]:
    """Returns the options of a function, converted to the types of their defaults.

    Args:
        function: the function.
        options: its options by name.
        set_elsewhere: arguments that are not options, and what sets each of them.

    Raises:
        ValueError: an option is unknown, is missing, or has the wrong type.
    """
    name = function.__name__
    parameters = {
        parameter.name: parameter.default
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in set_elsewhere
    }
    for option in options:
        if option in set_elsewhere:
            raise ValueError(
                f"{option} is not an option of {name} here; it is set by "
                f"{set_elsewhere[option]}"
            )
        if option not in parameters:
            known = ", ".join(parameters) or "none"
            raise ValueError(f"{name} has no option {option}; its options: {known}")
    for option, default in parameters.items():
        if default is inspect.Parameter.empty and option not in options:
            raise ValueError(f"{name} needs the option {option}")
    return {
        option: _convert(option, value, parameters[option])
        for option, value in options.items()
    }


def _convert(option: str, value: Any, default: Any) -> Any:
    """Returns an option's value as the type of its default."""
    if inspect.isfunction(default):
        raise ValueError(f"{option} is a function, so it keeps its default")
    value = as_kind(option, value, _kind(default))
    check_32_bits(option, value)
    return tuple(value) if isinstance(value, list) else value


def _kind(default: Any) -> Any:
    """Returns the type that values must have, as for `as_kind`."""
    if isinstance(default, tuple):
        return tuple[tuple(map(_kind, default))]  # type: ignore[misc]
    return type(default) if isinstance(default, bool | int | float | str) else Any


def probe(call: Callable[[], Any]) -> Any:
    """Returns the shapes of what a function returns, without computing it.

    Raises:
        ValueError: the function raises an error or warns its user; the message is the
            first line of that.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", UserWarning)
            return jax.eval_shape(call)
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise ValueError(f"optax refuses this: {first}") from None
