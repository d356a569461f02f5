"""Fields of a dataclass that are flags as well: their help, defaults and ranges."""

import dataclasses
import math
from collections.abc import Collection
from typing import Any

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


def check(field: dataclasses.Field, value: Any) -> None:
    """Raises UserError unless value is in the field's range."""
    rules = field.metadata
    if rules["choices"] and value not in rules["choices"]:
        raise UserError(
            f"--{field.name}={value} is unknown; choose from "
            + ", ".join(map(str, rules["choices"]))
        )
    if isinstance(value, tuple):
        if list(value) != sorted(value) or not all(0 < share < 1 for share in value):
            raise UserError(
                f"--{field.name}={','.join(map(str, value))} must rise from above 0 "
                "to below 1"
            )
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"--{field.name}={value} is not a finite number")
    if value is None:
        return
    if rules["at_least"] is not None and value < rules["at_least"]:
        raise UserError(f"--{field.name}={value} must be at least {rules['at_least']}")
    if rules["above"] is not None and value <= rules["above"]:
        raise UserError(f"--{field.name}={value} must be above {rules['above']}")
    if rules["at_most"] is not None and value > rules["at_most"]:
        raise UserError(f"--{field.name}={value} must be at most {rules['at_most']}")
