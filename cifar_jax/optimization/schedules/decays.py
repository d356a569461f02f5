"""Schedules that never rise."""

import collections
import dataclasses

import jax.numpy as jnp
import optax

from cifar_jax.checks import check_range
from cifar_jax.optimization.schedules.base import ScheduleSettings


@dataclasses.dataclass(frozen=True)
class Constant:
    """A constant learning rate."""

    def __call__(self, settings: ScheduleSettings) -> optax.Schedule:
        """Returns learning_rate."""
        return optax.constant_schedule(settings.learning_rate)


@dataclasses.dataclass(frozen=True)
class Staircase:
    """Drops at regular intervals, as in the tutorial."""

    def __call__(self, settings: ScheduleSettings) -> optax.Schedule:
        """Returns learning_rate * decay_factor ** floor(step / decay_steps)."""
        return optax.exponential_decay(
            settings.learning_rate,
            settings.decay_steps,
            settings.decay_factor,
            staircase=True,
        )


@dataclasses.dataclass(frozen=True)
class Piecewise:
    """Drops at given fractions of the run."""

    def __call__(self, settings: ScheduleSettings) -> optax.Schedule:
        """Returns learning_rate, multiplied by decay_factor at each drop.

        In a short run, two drops may fall on the same step; both count.
        """
        drops = [round(fraction * settings.max_steps) for fraction in settings.drops]
        factors = {
            step: settings.decay_factor**count
            for step, count in collections.Counter(drops).items()
        }
        return optax.piecewise_constant_schedule(settings.learning_rate, factors)


@dataclasses.dataclass(frozen=True)
class Cosine:
    """Half a cosine (Loshchilov and Hutter, SGDR, 2016)."""

    def __call__(self, settings: ScheduleSettings) -> optax.Schedule:
        """Returns learning_rate * (1 + cos(pi * step / max_steps)) / 2."""
        return optax.cosine_decay_schedule(settings.learning_rate, settings.max_steps)


@dataclasses.dataclass(frozen=True)
class Linear:
    """A straight line to 0.

    Attributes:
        until: fraction of the run after which the learning rate stays at 0.
    """

    until: float = 1.0

    def __post_init__(self) -> None:
        check_range("until", self.until, above=0, at_most=1)

    def __call__(self, settings: ScheduleSettings) -> optax.Schedule:
        """Returns learning_rate * (1 - step / (until * max_steps))."""
        steps = self.until * settings.max_steps
        rate = settings.learning_rate
        return lambda step: rate * jnp.maximum(0.0, 1 - step / steps)


@dataclasses.dataclass(frozen=True)
class Polynomial:
    """A power of a straight line, as in DeepLab (Chen et al., 2017).

    Attributes:
        power: the exponent; 1 for a straight line.
        end: learning rate at the end of the run, relative to the peak.
    """

    power: float = 0.9
    end: float = 0.0

    def __post_init__(self) -> None:
        check_range("power", self.power, above=0)
        check_range("end", self.end, at_least=0, at_most=1)

    def __call__(self, settings: ScheduleSettings) -> optax.Schedule:
        """Returns the peak times end + (1 - end) * (1 - step / max_steps) ** power."""
        rate = settings.learning_rate
        return optax.polynomial_schedule(
            rate, rate * self.end, self.power, settings.max_steps
        )
