"""Choices by name with options, such as `crop(padding=4), flip`.

A registry maps names to frozen dataclasses whose fields are the options. The text is
Python's own call syntax, so options can be positional, and a choice can be the option
of another one: `lookahead(sgd(momentum=0.9), period=5)`.
"""

import ast
import inspect
import math
import types
import typing
import warnings
from collections.abc import Callable, Mapping
from typing import Any, get_args

from cifar_jax.errors import UserError

Registry = Mapping[str, Callable[..., Any]]


def resolve(text: str, registry: Registry, flag: str) -> Any:
    """Returns the one choice that a text names.

    Args:
        text: a name, or a call such as `sgd(momentum=0.9)`.
        registry: the choices.
        flag: what the text was given as, for error messages.

    Raises:
        UserError: the text is not a choice, or its options cannot be used.
    """
    choices = resolve_all(text, registry, flag)
    if len(choices) != 1:
        raise UserError(f"--{flag}={text} must be exactly one of {_names(registry)}")
    return choices[0]


def resolve_all(text: str, registry: Registry, flag: str) -> tuple[Any, ...]:
    """Returns the choices that a text lists, in order; none if it is empty.

    Raises:
        UserError: the text is not a list of choices, or an option cannot be used.
    """
    return tuple(
        _instance(node, registry, f"--{flag}={text}") for node in _elements(text, flag)
    )


def canonical(text: str, flag: str) -> str:
    """Returns a text with uniform spacing, so that equal choices are equal texts.

    Raises:
        UserError: the text is not a list of names and calls.
    """
    return ", ".join(ast.unparse(node) for node in _elements(text, flag))


def signatures(registry: Registry) -> str:
    """Describes every choice of a registry with its options and their defaults."""
    described = []
    for name, choice in registry.items():
        parameters = inspect.signature(choice).parameters.values()
        options = ", ".join(
            p.name if p.default is p.empty else f"{p.name}={p.default!r}"
            for p in parameters
        )
        described.append(f"{name}({options})" if options else name)
    return ", ".join(described)


def _elements(text: str, flag: str) -> list[ast.expr]:
    try:
        with warnings.catch_warnings():
            # Of regular expressions, whose backslashes Python does not know.
            warnings.simplefilter("ignore")
            parsed = ast.parse(f"[{text}]", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        parsed = None
    if not isinstance(parsed, ast.List) or not all(map(_is_choice, parsed.elts)):
        raise UserError(
            f"--{flag}={text} is not a list of names, each with its options as in "
            "name(option=value)"
        )
    return parsed.elts


def _is_choice(node: ast.AST) -> bool:
    name = node.func if isinstance(node, ast.Call) else node
    return isinstance(name, ast.Name)


def _instance(node: ast.expr, registry: Registry, context: str) -> Any:
    """Returns the choice of a name or a call."""
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    assert isinstance(call.func, ast.Name)
    name = call.func.id
    if name not in registry:
        raise UserError(f"{context}: {name} is unknown; choose from {_names(registry)}")
    choice = registry[name]

    def value(argument: ast.expr) -> Any:
        if _is_choice(argument):
            return _instance(argument, registry, context)
        return ast.literal_eval(argument)

    try:
        positional = [value(argument) for argument in call.args]
        named = {str(option.arg): value(option.value) for option in call.keywords}
        bound = inspect.signature(choice).bind(*positional, **named)
        hints = typing.get_type_hints(choice)
        for option, given in bound.arguments.items():
            bound.arguments[option] = _checked(option, given, hints.get(option, Any))
        return choice(*bound.args, **bound.kwargs)
    except (TypeError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(
            f"{context}: {name} cannot be used: {error}; it is "
            f"{signatures({name: choice})}"
        ) from None


def _checked(option: str, value: Any, kind: Any) -> Any:
    """Returns the value as its type; raises ValueError if it is of another one."""
    kinds = get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    plain = [k for k in kinds if k in _WORDS]
    if not plain or type(value) in plain:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{option}={value} is not a finite number")
        return value
    if float in plain and type(value) is int and abs(value) < 2**1023:
        return float(value)
    wanted = " or ".join(_WORDS[k] for k in plain)
    raise ValueError(f"{option}={value!r} must be {wanted}")


_WORDS: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    bool: "True or False",
    str: "text in quotes",
    type(None): "None",
}


def _names(registry: Registry) -> str:
    return ", ".join(registry)


def check_range(
    name: str,
    value: float,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> None:
    """Raises ValueError unless an option lies within its bounds."""
    if at_least is not None and value < at_least:
        raise ValueError(f"{name}={value} must be at least {at_least}")
    if above is not None and value <= above:
        raise ValueError(f"{name}={value} must be above {above}")
    if at_most is not None and value > at_most:
        raise ValueError(f"{name}={value} must be at most {at_most}")
    if below is not None and value >= below:
        raise ValueError(f"{name}={value} must be below {below}")
