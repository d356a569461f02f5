"""The interface of learning rate schedules, and what they have in common."""

import dataclasses
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import optax


@dataclasses.dataclass(frozen=True)
class ScheduleSettings:
    """The settings that schedules read.

    Attributes:
        learning_rate: the peak learning rate.
        max_steps: the length of the run.
        decay_factor: factor applied to the learning rate at each drop.
        decay_steps: steps between drops of the staircase schedule.
        drops: fractions of max_steps at which the piecewise schedule drops.
        warmup: fraction of max_steps during which the learning rate rises linearly.
    """

    learning_rate: float
    max_steps: int
    decay_factor: float
    decay_steps: int
    drops: tuple[float, ...]
    warmup: float


@runtime_checkable
class Schedule(Protocol):
    """The interface of classes in SCHEDULES; their dataclass fields are options."""

    def __call__(self, settings: ScheduleSettings) -> optax.Schedule:
        """Returns the learning rate as a function of the step."""
        ...


def warm_up(schedule: optax.Schedule, steps: int) -> optax.Schedule:
    """Multiplies the first steps of a schedule by 1/steps, 2/steps, and so on.

    The warm-up starts above 0, since a step at 0 would be wasted (Goyal et al.,
    Accurate, Large Minibatch SGD, 2017).
    """
    return lambda step: schedule(step) * jnp.minimum(1.0, (step + 1) / steps)
