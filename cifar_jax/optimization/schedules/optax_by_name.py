"""Any schedule of optax, by name."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import optax

from cifar_jax.checks import check_range
from cifar_jax.optimization import by_name
from cifar_jax.optimization.schedules.base import ScheduleSettings

# The argument that is the peak: the first of these that a function has.
_PEAKS = ("peak_value", "init_value", "value")
# Arguments whose default here is the length of the run.
_LENGTHS = ("decay_steps", "transition_steps")
# A length of a run with room for any other length.
_LONG = 2**30


@functools.cache
def functions() -> dict[str, Callable[..., optax.Schedule]]:
    """Returns the functions of optax that return a schedule with a peak, by name."""
    return {
        name: function
        for name, function in sorted(vars(optax.schedules).items())
        if inspect.isfunction(function) and _find_argument(function, _PEAKS)
    }


def _find_argument(function: Callable[..., Any], names: tuple[str, ...]) -> str | None:
    """Returns the first of these names that is an argument of a function."""
    parameters = inspect.signature(function).parameters
    return next((name for name in names if name in parameters), None)


@dataclasses.dataclass(frozen=True)
class OptaxSchedule:
    """A schedule of optax, in steps (updates, if gradients are accumulated).

    The learning rate of the run is its peak: its `peak_value` or, if it has none, its
    `init_value` or `value`. Other learning rates are absolute, as in optax.
    `decay_steps` and `transition_steps` are the length of the run unless given.

    Attributes:
        name: the name of a function in `optax.schedules`.
        options: its options.
    """

    name: str
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        function = by_name.find(self.name, functions(), "schedule")
        options = by_name.check_options(
            function,
            self._with_length(_LONG),
            {str(_find_argument(function, _PEAKS)): "--learning_rate"},
        )
        for option, value in options.items():
            if isinstance(value, int | float):
                check_range(option, value, at_least=int(option in _LENGTHS))
            elif isinstance(value, dict) and not all(type(key) is int for key in value):
                raise ValueError(f"{option}={value} must have steps, integers, as keys")
        object.__setattr__(self, "options", {k: options[k] for k in self.options})
        by_name.probe(lambda: self._create(0.1, _LONG)(0))

    def __call__(self, settings: ScheduleSettings) -> optax.Schedule:
        """Returns the schedule.

        Raises:
            ValueError: optax refuses the options for a run of this length.
        """
        return self._create(settings.learning_rate, settings.max_steps)

    def _create(self, learning_rate: float, max_steps: int) -> optax.Schedule:
        function = functions()[self.name]
        peak = {str(_find_argument(function, _PEAKS)): learning_rate}
        return function(**self._with_length(max_steps), **peak)

    def _with_length(self, max_steps: int) -> dict[str, Any]:
        """Returns the options, with the length of the run if they have none."""
        length = _find_argument(functions()[self.name], _LENGTHS)
        return ({} if length is None else {length: max_steps}) | dict(self.options)


def from_optax(name: str, **options: Any) -> OptaxSchedule:
    """Returns a schedule of optax, such as `exponential_decay`, with its options."""
    return OptaxSchedule(name, options)
