"""Averages of the params over a run, by which the network is evaluated."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from cifar_jax.checks import check_range
from cifar_jax.registry import Registry

# Of the losses, in the tutorial's `_add_loss_summaries`.
LOSS_AVERAGE_DECAY = 0.9


class Average(abc.ABC):
    """An average of all that a network computes with; its fields are its options.

    Attributes:
        keeps: whether there is anything to keep, which is not so if the last params are
            the average.
        open_ended: whether an update is independent of the length of the run.
    """

    keeps: ClassVar[bool] = True
    open_ended: ClassVar[bool] = True

    @abc.abstractmethod
    def update(
        self,
        new: PyTree,
        average: PyTree,
        num_updates: Int[Array, ""],
        max_updates: int,
    ) -> PyTree:
        """Returns the next average.

        Args:
            new: the variables after an update of the optimizer.
            average: of those before it; at first, of the initial ones.
            num_updates: the number of updates so far, this one included.
            max_updates: the number of updates in the whole run.
        """


@dataclasses.dataclass(frozen=True)
class EMA(Average):
    """Exponential moving average.

    Attributes:
        decay: weight of the average so far; 1 - decay is that of the new variables.
        ramp: whether it rises to that value as (1 + n) / (10 + n) after n updates, so
            that early averages forget the initialization, as in
            `tf.train.ExponentialMovingAverage` with num_updates.
    """

    decay: float
    ramp: bool = False

    def __post_init__(self) -> None:
        check_range("decay", self.decay, at_least=0, at_most=1)

    def update(
        self,
        new: PyTree,
        average: PyTree,
        num_updates: Int[Array, ""],
        max_updates: int,
    ) -> PyTree:
        """Returns decay * average + (1 - decay) * new."""
        decay: Array | float = self.decay
        if self.ramp:
            decay = jnp.minimum(decay, (1.0 + num_updates) / (10.0 + num_updates))
        return optax.incremental_update(new, average, 1.0 - decay)


@dataclasses.dataclass(frozen=True)
class SWA(Average):
    """Stochastic weight averaging: the equal mean of the last part of a run.

    Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization,
    2018, with every update counted.

    Attributes:
        start: the fraction of the run after which the mean begins; until then, it is
            the variables themselves.
    """

    start: float = 0.75
    open_ended: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_range("start", self.start, at_least=0, below=1)

    def update(
        self,
        new: PyTree,
        average: PyTree,
        num_updates: Int[Array, ""],
        max_updates: int,
    ) -> PyTree:
        """Returns the mean of all variables since the start."""
        count = num_updates - int(self.start * max_updates)
        return optax.incremental_update(new, average, 1.0 / jnp.maximum(1, count))


@dataclasses.dataclass(frozen=True)
class NoAverage(Average):
    """The last variables."""

    keeps: ClassVar[bool] = False

    def update(
        self,
        new: PyTree,
        average: PyTree,
        num_updates: Int[Array, ""],
        max_updates: int,
    ) -> PyTree:
        """Returns the new variables."""
        return new


AVERAGES: Registry[Average] = Registry(
    Average,
    {
        "ema": EMA,
        "swa": SWA,
        "none": NoAverage,
    },
)


class AverageState(NamedTuple):
    """State of `average_params`."""

    num_updates: Int[Array, ""]
    average: PyTree


def average_params(
    average: Average,
    max_updates: int,
    eval_params: Callable[[optax.OptState, PyTree], PyTree],
) -> optax.GradientTransformationExtraArgs:
    """Returns a transformation that keeps the average of the params in its state.

    It is the last one of a chain: it needs the final updates, and it passes them on
    unchanged. (`optax.ema` averages the updates, not the params.) The first average is
    the initial params. Its update needs `opt_state`, the state of what came before it.

    Args:
        average: the kind of average.
        max_updates: the length of the run.
        eval_params: returns the params to average, see `Optimizer.eval_params`.
    """

    def init(params: PyTree) -> AverageState:
        # Copies: the train state is donated, and no buffer can be donated twice.
        return AverageState(
            num_updates=jnp.zeros([], jnp.int32), average=jax.tree.map(jnp.copy, params)
        )

    def update(
        updates: PyTree,
        state: AverageState,
        params: PyTree | None = None,
        *,
        opt_state: optax.OptState,
        **extra: Any,
    ) -> tuple[PyTree, AverageState]:
        if params is None:
            raise ValueError("average_params needs the params in update()")
        n = optax.safe_increment(state.num_updates)
        new = eval_params(opt_state, optax.apply_updates(params, updates))
        return updates, AverageState(
            n, average.update(new, state.average, n, max_updates)
        )

    return optax.GradientTransformationExtraArgs(init, update)


def average_batch_stats(
    average: Average,
    new: PyTree,
    old: PyTree,
    step: Int[Array, ""],
    max_updates: int,
    every: int,
) -> PyTree:
    """Returns the average of BatchNorm's statistics after so many steps of the run.

    Like that of the params, it counts updates: other steps leave it as it is.

    Args:
        average: the kind of average.
        new: the statistics after the step.
        old: their average before it.
        step: the number of steps taken, this one included.
        max_updates: the length of the run.
        every: the number of steps for each update.
    """
    updated = average.update(new, old, step // every, max_updates)
    if every == 1:
        return updated
    at_update = step % every == 0
    return jax.tree.map(lambda new, old: jnp.where(at_update, new, old), updated, old)


def averaged_params(opt_state: optax.OptState) -> PyTree | None:
    """Returns the average in the state of a chain; None if it keeps none."""
    state = optax.tree.get(opt_state, AverageState.__name__)
    return None if state is None else state.average
