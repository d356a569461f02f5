"""Learning rate schedules, by name."""

import collections
import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import optax

from cifar_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class ScheduleSettings:
    """The settings that schedules read.

    Attributes:
        learning_rate: the highest learning rate.
        max_steps: the length of the run.
        decay_factor: what each drop of the learning rate multiplies it by.
        decay_steps: steps between the drops of the staircase.
        drops: fractions of max_steps at which the piecewise schedule drops.
        warmup: fraction of max_steps during which the learning rate rises linearly.
    """

    learning_rate: float
    max_steps: int
    decay_factor: float
    decay_steps: int
    drops: tuple[float, ...]
    warmup: float


def create(name: str, settings: ScheduleSettings) -> optax.Schedule:
    """Returns the schedule of that name, with its warm-up.

    Raises:
        UserError: there is no schedule of that name.
    """
    if name not in SCHEDULES:
        raise UserError(
            f"schedule {name!r} is unknown; choose from {', '.join(SCHEDULES)}"
        )
    schedule = SCHEDULES[name](settings)
    warmup_steps = round(settings.warmup * settings.max_steps)
    return warm_up(schedule, warmup_steps) if warmup_steps else schedule


def constant(settings: ScheduleSettings) -> optax.Schedule:
    """Returns the schedule that stays at learning_rate."""
    return optax.constant_schedule(settings.learning_rate)


def staircase(settings: ScheduleSettings) -> optax.Schedule:
    """Returns learning_rate * decay_factor ** floor(step / decay_steps)."""
    return optax.exponential_decay(
        settings.learning_rate,
        settings.decay_steps,
        settings.decay_factor,
        staircase=True,
    )


def piecewise(settings: ScheduleSettings) -> optax.Schedule:
    """Returns learning_rate, multiplied by decay_factor at each of the drops.

    Two drops that fall on the same step, as in a short run they may, both count.
    """
    drops = [round(fraction * settings.max_steps) for fraction in settings.drops]
    factors = {
        step: settings.decay_factor**count
        for step, count in collections.Counter(drops).items()
    }
    return optax.piecewise_constant_schedule(settings.learning_rate, factors)


def cosine(settings: ScheduleSettings) -> optax.Schedule:
    """Returns learning_rate * (1 + cos(pi * step / max_steps)) / 2.

    Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, 2016.
    """
    return optax.cosine_decay_schedule(settings.learning_rate, settings.max_steps)


def linear(settings: ScheduleSettings) -> optax.Schedule:
    """Returns learning_rate * (1 - step / max_steps)."""
    return optax.linear_schedule(settings.learning_rate, 0.0, settings.max_steps)


def warm_up(schedule: optax.Schedule, steps: int) -> optax.Schedule:
    """Multiplies the first steps of a schedule by 1/steps, 2/steps, and so on.

    It starts above 0, since a step at 0 would be wasted (Goyal et al., Accurate, Large
    Minibatch SGD, 2017).
    """
    return lambda step: schedule(step) * jnp.minimum(1.0, (step + 1) / steps)


SCHEDULES: dict[str, Callable[[ScheduleSettings], optax.Schedule]] = {
    "constant": constant,
    "staircase": staircase,
    "piecewise": piecewise,
    "cosine": cosine,
    "linear": linear,
}
