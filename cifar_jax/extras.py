"""Optional dependencies, which the extras of this package install."""

import importlib

from cifar_jax.errors import UserError


def require(what: str, extra: str, *modules: str) -> None:
    """Raises UserError unless the modules of an extra can be imported.

    Args:
        what: what needs them; the message begins with it.
        extra: name of the extra in pyproject.toml.
        modules: names of the modules.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise UserError(f"{what} needs {error.name}: {way_out(extra)}") from None


def way_out(extra: str) -> str:
    """Returns the command that installs an extra."""
    return f"pip install 'cifar-jax[{extra}]'"
