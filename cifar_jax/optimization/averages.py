"""Averages of the params over a run, used to evaluate the network."""

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

# Decay of the loss averages in the tutorial's `_add_loss_summaries`.
LOSS_AVERAGE_DECAY = 0.9


class Average(abc.ABC):
    """An average of a network's variables; its fields are its options.

    Attributes:
        keeps: whether an average is kept; False if the last params serve as the
            average.
        open_ended: whether updates are independent of the length of the run.
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
            new: the variables after an optimizer update.
            average: the average before it; at first, the initial variables.
            num_updates: the number of updates so far, including this one.
            max_updates: the number of updates in the whole run.
        """


@dataclasses.dataclass(frozen=True)
class EMA(Average):
    """Exponential moving average.

    Attributes:
        decay: weight of the average so far; the new variables have weight 1 - decay.
        ramp: whether the decay ramps up to that value as (1 + n) / (10 + n) after n
            updates, so that early averages forget the initialization, as in
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
    """Stochastic weight averaging: the unweighted mean over the last part of a run.

    Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization,
    2018, but including every update.

    Attributes:
        start: the fraction of the run after which averaging begins; until then, the
            average is the variables themselves.
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
    """No average: the last variables are used."""

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

    It must be the last one in a chain: it needs the final updates, and passes them on
    unchanged. (`optax.ema` averages the updates, not the params.) The average starts
    as the initial params. `update` takes `opt_state`, the state of the transformations
    before it.

    Args:
        average: the type of average.
        max_updates: the length of the run.
        eval_params: returns the params to average; see `Optimizer.eval_params`.
    """

    def init(params: PyTree) -> AverageState:
        # Copied because the train state is donated, and no buffer can be donated twice.
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


def chain_with_state(
    first: optax.GradientTransformation, last: optax.GradientTransformationExtraArgs
) -> optax.GradientTransformationExtraArgs:
    """Chains like `optax.chain`, but passes the state of the first to the last."""
    first = optax.with_extra_args_support(first)

    def init(params: PyTree) -> tuple[optax.OptState, optax.OptState]:
        return first.init(params), last.init(params)

    def update(
        gradients: PyTree,
        state: tuple[optax.OptState, optax.OptState],
        params: PyTree | None = None,
        **extra: Any,
    ) -> tuple[PyTree, tuple[optax.OptState, optax.OptState]]:
        updates, opt_state = first.update(gradients, state[0], params, **extra)
        updates, average = last.update(
            updates, state[1], params, **extra, opt_state=opt_state
        )
        return updates, (opt_state, average)

    return optax.GradientTransformationExtraArgs(init, update)


def average_batch_stats(
    average: Average,
    new: PyTree,
    old: PyTree,
    step: Int[Array, ""],
    max_updates: int,
    every: int,
) -> PyTree:
    """Returns the average of the BatchNorm statistics after a step.

    Like the average of the params, it changes only in steps that update the params.

    Args:
        average: the type of average.
        new: the statistics after the step.
        old: their average before the step.
        step: the number of steps taken, including this one.
        max_updates: the length of the run, in updates.
        every: the number of steps per update.
    """
    updated = average.update(new, old, step // every, max_updates)
    if every == 1:
        return updated
    at_update = step % every == 0
    return jax.tree.map(lambda new, old: jnp.where(at_update, new, old), updated, old)


def averaged_params(opt_state: optax.OptState) -> PyTree | None:
    """Returns the average in the state of a chain, or None if it keeps none."""
    state = optax.tree.get(opt_state, AverageState.__name__)
    return None if state is None else state.average
