"""Learning rate schedules, by name."""

import optax

from cifar_jax.errors import UserError
from cifar_jax.optimization.schedules.base import Schedule, ScheduleSettings, warm_up
from cifar_jax.optimization.schedules.cycles import (
    WSD,
    CosineRestarts,
    OneCycle,
    Triangle,
)
from cifar_jax.optimization.schedules.decays import (
    Constant,
    Cosine,
    Linear,
    Piecewise,
    Polynomial,
    Staircase,
)
from cifar_jax.optimization.schedules.optax_by_name import from_optax
from cifar_jax.registry import Registry, resolve

__all__ = ["SCHEDULES", "Schedule", "ScheduleSettings", "create"]

SCHEDULES: Registry[Schedule] = Registry(
    Schedule,
    {
        "constant": Constant,
        "staircase": Staircase,
        "piecewise": Piecewise,
        "cosine": Cosine,
        "linear": Linear,
        "polynomial": Polynomial,
        "triangle": Triangle,
        "onecycle": OneCycle,
        "cosine_restarts": CosineRestarts,
        "wsd": WSD,
        "optax": from_optax,
    },
)


def create(text: str, settings: ScheduleSettings) -> optax.Schedule:
    """Returns the schedule named by a text such as `linear`, with its warm-up.

    Raises:
        UserError: there is no such schedule, or it does not fit the length of the run.
    """
    try:
        schedule = resolve(text, SCHEDULES, "schedule")(settings)
    except ValueError as error:
        raise UserError(
            f"--schedule={text} does not fit a run of {settings.max_steps} steps: "
            f"{error}"
        ) from None
    warmup_steps = round(settings.warmup * settings.max_steps)
    return warm_up(schedule, warmup_steps) if warmup_steps else schedule
