"""Choices by name with options, such as `crop(padding=4), flip`.

A registry maps names to classes or functions whose arguments are the options. The text
uses Python's call syntax, so options can be positional, numbers can be fractions such
as 8/255, and a choice can be the option of another one:
`lookahead(sgd(momentum=0.9), period=5)`.
"""

import ast
import functools
import inspect
import typing
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from cifar_jax.checks import as_kind, check_32_bits
from cifar_jax.errors import UserError

Kind = TypeVar("Kind")


class Registry(dict[str, Callable[..., Kind]]):
    """Choices by name: classes or functions, each of which returns a `kind`.

    Attributes:
        kind: the type of what they return.
    """

    def __init__(self, kind: Any, choices: Mapping[str, Callable[..., Kind]]):
        super().__init__(choices)
        self.kind = kind


def resolve(
    text: str,
    registry: Registry[Kind],
    flag: str,
    reserved: Collection[str] = (),
    given: Mapping[str, Any] | None = None,
) -> Kind:
    """Returns the single choice that a text names.

    Args:
        text: a name, or a call such as `sgd(momentum=0.9)`.
        registry: the choices.
        flag: the flag that the text was passed to, for error messages.
        reserved: arguments of the choices that are not options.
        given: arguments that each choice is called with in addition to its options.

    Raises:
        UserError: the text is not a choice, its options cannot be used, or it returns
            an object of the wrong type.
    """
    choices = resolve_all(text, registry, flag, reserved, given)
    if len(choices) != 1:
        raise UserError(
            f"--{flag}={text} must be exactly one of {_list_names(registry)}"
        )
    return choices[0]


def resolve_all(
    text: str,
    registry: Registry[Kind],
    flag: str,
    reserved: Collection[str] = (),
    given: Mapping[str, Any] | None = None,
) -> tuple[Kind, ...]:
    """Returns the choices that a text lists, in order; none if it is empty.

    Raises:
        UserError: the text is not a list of choices, or an option cannot be used.
    """
    instance = functools.partial(
        _instance, registry, f"--{flag}={text}", reserved, given or {}
    )
    return tuple(map(instance, _elements(text, flag)))


def names(text: str, flag: str) -> tuple[str, ...]:
    """Returns the names that a text lists, without their options.

    Raises:
        UserError: the text is not a list of names and calls.
    """
    return tuple(_call(node)[0] for node in _elements(text, flag))


def canonicalize(text: str, flag: str) -> str:
    """Returns a text with uniform spacing, so that equal choices have equal texts.

    Raises:
        UserError: the text is not a list of names and calls.
    """
    return ", ".join(elements(text, flag))


def elements(text: str, flag: str) -> list[str]:
    """Returns the texts of the choices that a text lists, with uniform spacing.

    Raises:
        UserError: the text is not a list of names and calls.
    """
    return [ast.unparse(node) for node in _elements(text, flag)]


def signatures(
    registry: Mapping[str, Callable[..., Any]], reserved: Collection[str] = ()
) -> str:
    """Describes every choice in a registry with its options and their defaults."""
    described = []
    for name, choice in registry.items():
        options = ", ".join(
            str(p.replace(annotation=p.empty))
            for p in inspect.signature(choice).parameters.values()
            if p.name not in reserved
        )
        described.append(f"{name}({options})" if options else name)
    return ", ".join(described)


def _elements(text: str, flag: str) -> list[ast.expr]:
    try:
        with warnings.catch_warnings():
            # Python warns about the backslashes of regular expressions.
            warnings.simplefilter("ignore")
            parsed = ast.parse(f"[{text}]", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        parsed = None
    if not (
        isinstance(text, str)
        and isinstance(parsed, ast.List)
        and all(map(_is_choice, parsed.elts))
    ):
        raise UserError(
            f"--{flag}={text} is not a list of names, each with its options as in "
            "name(option=value)"
        )
    return parsed.elts


def _is_choice(node: ast.AST) -> bool:
    name = node.func if isinstance(node, ast.Call) else node
    return isinstance(name, ast.Name)


def _call(node: ast.expr) -> tuple[str, ast.Call]:
    """Returns the name in a name or a call, and the call."""
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    assert isinstance(call.func, ast.Name)
    return call.func.id, call


def _instance(
    registry: Registry[Kind],
    context: str,
    reserved: Collection[str],
    given: Mapping[str, Any],
    node: ast.expr,
) -> Kind:
    """Resolves a name or a call to its choice."""
    name, call = _call(node)
    if name not in registry:
        raise UserError(
            f"{context}: {name} is unknown; choose from {_list_names(registry)}"
        )
    choice = registry[name]

    def value(argument: ast.expr) -> Any:
        if _is_choice(argument):
            return _instance(registry, context, reserved, given, argument)
        if isinstance(argument, ast.BinOp) and isinstance(argument.op, ast.Div):
            return ast.literal_eval(argument.left) / ast.literal_eval(argument.right)
        return ast.literal_eval(argument)

    try:
        positional = [value(argument) for argument in call.args]
        named = {str(option.arg): value(option.value) for option in call.keywords}
        for option in named:
            if option in reserved:
                raise ValueError(f"{option} is not an option, the program sets it")
        bound = inspect.signature(choice).bind(*positional, **named, **given)
        # A partial function has the type hints of its function.
        hints = typing.get_type_hints(getattr(choice, "func", choice))
        for option in bound.arguments.keys() - given.keys():
            argument = bound.arguments[option]
            given_value = as_kind(option, argument, hints.get(option, Any))
            check_32_bits(option, given_value)
            bound.arguments[option] = given_value
        made = choice(*bound.args, **bound.kwargs)
    except (
        *(TypeError, ValueError, NameError, ArithmeticError),
        *(RecursionError, MemoryError),
    ) as error:
        raise UserError(
            f"{context}: {name} cannot be used: {error}; it is "
            f"{signatures({name: choice}, reserved)}"
        ) from None
    if not isinstance(made, registry.kind):
        raise UserError(f"{context}: {name} returns {_misfit(made, registry.kind)}")
    return made


def _misfit(made: object, kind: Any) -> str:
    """Describes why a value is not of a kind."""
    place = f"{kind.__module__}.{kind.__name__}"
    own = f"an object of {type(made).__name__}"
    if not getattr(kind, "_is_protocol", False):
        return f"{own}, which must derive from {place}"
    needed = dict.fromkeys([*vars(kind).get("__annotations__", ()), *vars(kind)])
    lacking = [
        name
        for name in needed
        if (name == "__call__" or name[0] != "_") and not hasattr(made, name)
    ]
    return f"{own}, which is not a {place}: it lacks {', '.join(lacking)}"


def _list_names(registry: Registry[Any]) -> str:
    return ", ".join(registry)
