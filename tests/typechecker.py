"""The type checker of the tests: shapes, dtypes and types of every call are checked.

    python -m pytest --jaxtyping-packages=cifar_jax,typechecker.check

It is beartype, except that an int is accepted where a float is expected (PEP 484), and
that pytrees can be made of anything, as JAX does when it transforms functions of them.
"""

from collections.abc import Callable

from beartype import BeartypeConf, beartype

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_PYTREES = ("TrainState.__init__", "Inspection.__init__")


def check(function: Callable) -> Callable:
    """Returns the function with a check of its arguments and its result."""
    return function if function.__qualname__ in _PYTREES else _check(function)
