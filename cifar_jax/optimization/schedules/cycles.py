"""Schedules that rise as well as fall."""

import dataclasses
import math
from typing import Literal

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.optimization.schedules.base import ScheduleSettings, warm_up


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


@dataclasses.dataclass(frozen=True)
class OneCycle:
    """One rise and one fall to almost 0, as PyTorch's OneCycleLR with two phases.

    Smith and Topin, Super-Convergence: Very Fast Training of Neural Networks Using
    Large Learning Rates, 2018. The momentum stays constant.

    Attributes:
        pct_start: fraction of the run during which the learning rate rises.
        div_factor: the peak divided by the learning rate at the first step.
        final_div_factor: the learning rate at the first step divided by that at the
            last step.
        shape: of both phases, half a cosine or a straight line.
    """

    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    shape: Literal["cosine", "linear"] = "cosine"

    def __post_init__(self) -> None:
        check_range("pct_start", self.pct_start, above=0, below=1)
        check_range("div_factor", self.div_factor, at_least=1)
        check_range("final_div_factor", self.final_div_factor, at_least=1)

    def __call__(self, settings: ScheduleSettings) -> optax.Schedule:
        """Returns the schedule; its peak is at step pct_start * max_steps - 1."""
        last = max(1, settings.max_steps - 1)
        peak = max(0.0, self.pct_start * settings.max_steps - 1)
        start = 1 / self.div_factor
        end = start / self.final_div_factor

        def schedule(step: Array | int) -> Float[Array, ""]:
            rising = start + (1 - start) * self._along(step / max(peak, 1.0))
            falling = 1 + (end - 1) * self._along((step - peak) / (last - peak))
            factor = jnp.where(step < peak, rising, falling)
            return settings.learning_rate * factor

        return schedule

    def _along(self, part: Array | float) -> Float[Array, ""]:
        """Returns how much of its way a phase has gone after a part of its time."""
        part = jnp.clip(part, 0.0, 1.0)
        return (1 - jnp.cos(math.pi * part)) / 2 if self.shape == "cosine" else part


@dataclasses.dataclass(frozen=True)
class CosineRestarts:
    """Half a cosine again and again (Loshchilov and Hutter, SGDR, 2016).

    A run ends with the end of a period if 1 / first = 1 + factor + factor ** 2 + ...,
    as for the defaults.

    Attributes:
        first: the first period, as a fraction of the run.
        factor: the length of each period relative to the one before it.
        end: learning rate at the end of a period, relative to the peak.
    """

    first: float = 0.25
    factor: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        check_range("first", self.first, at_least=0.001, at_most=1)
        check_range("factor", self.factor, at_least=1)
        check_range("end", self.end, at_least=0, at_most=1)

    def __call__(self, settings: ScheduleSettings) -> optax.Schedule:
        """Returns end + (1 - end) * (1 + cos(pi * part)) / 2, times the peak.

        `part` is the part of the period that has passed; periods begin at whole steps.
        """
        length = float(max(1, round(self.first * settings.max_steps)))
        starts = [0.0]
        while starts[-1] <= settings.max_steps:
            starts.append(starts[-1] + length)
            length *= self.factor
        edges = np.round(starts)

        def schedule(step: Array | int) -> Float[Array, ""]:
            period = jnp.searchsorted(edges, step, side="right") - 1
            begin, until = jnp.asarray(edges)[period], jnp.asarray(edges)[period + 1]
            cosine = jnp.cos(math.pi * (step - begin) / (until - begin))
            factor = self.end + (1 - self.end) * (1 + cosine) / 2
            return settings.learning_rate * factor

        return schedule


@dataclasses.dataclass(frozen=True)
class WSD:
    """Warm-up, a stable phase at the peak, and decay (Hu et al., MiniCPM, 2024).

    Attributes:
        warmup: fraction of the run during which the learning rate rises linearly.
        decay: fraction of the run, at its end, during which it falls.
        shape: of the fall: linear, or sqrt, 1 minus the square root of the part of the
            decay that has passed (Hägele et al., Scaling Laws and Compute-Optimal
            Training Beyond Fixed Training Durations, 2024).
        end: learning rate at the end of the run, relative to the peak.
    """

    warmup: float = 0.05
    decay: float = 0.2
    shape: Literal["linear", "sqrt"] = "sqrt"
    end: float = 0.0

    def __post_init__(self) -> None:
        check_range("warmup", self.warmup, at_least=0, below=1)
        check_range("decay", self.decay, above=0, at_most=1)
        check_range("end", self.end, at_least=0, at_most=1)
        if self.warmup + self.decay > 1:
            raise ValueError(
                f"warmup={self.warmup} and decay={self.decay} must add up to at most 1"
            )

    def __call__(self, settings: ScheduleSettings) -> optax.Schedule:
        """Returns the peak times (step + 1) / warm-up steps, then 1, then the fall."""
        start = (1 - self.decay) * settings.max_steps

        def schedule(step: Array | int) -> Float[Array, ""]:
            part = jnp.clip((step - start) / (settings.max_steps - start), 0.0, 1.0)
            fallen = jnp.sqrt(part) if self.shape == "sqrt" else part
            return settings.learning_rate * (1 + (self.end - 1) * fallen)

        warmup_steps = round(self.warmup * settings.max_steps)
        return warm_up(schedule, warmup_steps) if warmup_steps else schedule
