"""Learning rate schedules, by name."""

import collections
import dataclasses
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import optax

from cifar_jax.checks import check_range
from cifar_jax.registry import Registry, resolve


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
class Triangle:
    """A straight line up to the peak learning rate and another one down from it.

    Attributes:
        start: learning rate at the first step, relative to the peak.
        peak: fraction of the run at which the peak is reached.
        end: learning rate at the end of the run, relative to the peak.
    """

    start: float = 0.0
    peak: float = 0.2
    end: float = 0.0

    def __post_init__(self) -> None:
        check_range("start", self.start, at_least=0, at_most=1)
        check_range("peak", self.peak, above=0, below=1)
        check_range("end", self.end, at_least=0, at_most=1)

    def __call__(self, settings: ScheduleSettings) -> optax.Schedule:
        """Returns the linear interpolation between the three points."""
        # Rounded down to a whole step, as in Airbench.
        peak = max(1, int(self.peak * settings.max_steps))
        points = jnp.array([0.0, peak, max(peak + 1, settings.max_steps)])
        factors = jnp.array([self.start, 1.0, self.end])
        rate = settings.learning_rate
        return lambda step: rate * jnp.interp(jnp.asarray(step, float), points, factors)


def create(text: str, settings: ScheduleSettings) -> optax.Schedule:
    """Returns the schedule named by a text such as `linear`, with its warm-up.

    Raises:
        UserError: there is no such schedule.
    """
    schedule = resolve(text, SCHEDULES, "schedule")(settings)
    warmup_steps = round(settings.warmup * settings.max_steps)
    return warm_up(schedule, warmup_steps) if warmup_steps else schedule


def warm_up(schedule: optax.Schedule, steps: int) -> optax.Schedule:
    """Multiplies the first steps of a schedule by 1/steps, 2/steps, and so on.

    The warm-up starts above 0, since a step at 0 would be wasted (Goyal et al.,
    Accurate, Large Minibatch SGD, 2017).
    """
    return lambda step: schedule(step) * jnp.minimum(1.0, (step + 1) / steps)


SCHEDULES: Registry[Schedule] = Registry(
    Schedule,
    {
        "constant": Constant,
        "staircase": Staircase,
        "piecewise": Piecewise,
        "cosine": Cosine,
        "linear": Linear,
        "triangle": Triangle,
    },
)
