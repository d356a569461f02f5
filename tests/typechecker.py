"""The tests' type checker, which checks shapes, dtypes and types in every call.

    python -m pytest --jaxtyping-packages=cifar_jax,typechecker.check

It is beartype, except that it accepts an int for a float (PEP 484), and pytrees with
any leaves, which JAX creates when it transforms functions.
"""

from collections.abc import Callable

from beartype import BeartypeConf, beartype

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_PYTREES = ("TrainState.__init__", "Inspection.__init__")


def check(function: Callable) -> Callable:
    """Returns the function with checks of its arguments and result."""
    return function if function.__qualname__ in _PYTREES else _check(function)
