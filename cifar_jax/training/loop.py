"""The training loop, which takes the steps; hooks do everything else."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import Array

from cifar_jax.errors import UserError
from cifar_jax.evaluation.inference import Trained
from cifar_jax.training.inspection import Inspection
from cifar_jax.training.steps import Metrics
from cifar_jax.training.train_state import TrainState
from cifar_jax.writers import as_numbers

# Numbers that a hook returns to be recorded, by name.
Numbers = Mapping[str, float | Array]


@runtime_checkable
class Steps(Protocol):
    """The interface for taking a run's steps; see `CompiledSteps`."""

    def train_steps(
        self, state: TrainState, first: int, end: int
    ) -> tuple[TrainState, Metrics]:
        """Takes the steps first, ..., end - 1; returns the metrics of the last one."""
        ...

    def inspect(self, state: TrainState, step: int) -> Inspection:
        """Looks inside the step with this number without taking it."""
        ...


@dataclasses.dataclass
class Moment:
    """A run between two device calls, as hooks see it.

    Attributes:
        first: the first step of the last call.
        step: the number of steps taken, which is also the number of the next step.
        state: the state after these steps.
        metrics: of the last step, `step - 1`: loss terms, `total_loss`, --metrics.
        seconds: time the steps of this run took so far, excluding hooks.
        network: returns the network in a state.
        stopped: why the run should end here; None: it continues.
    """

    first: int
    step: int
    state: TrainState
    metrics: Metrics
    seconds: float
    network: Callable[..., Trained]
    stopped: Any = None

    @classmethod
    def from_state(cls, state: TrainState, network: Callable[..., Trained]) -> "Moment":
        """Returns the moment before the first step of a run."""
        return cls(int(state.step), int(state.step), state, {}, 0.0, network)

    def to_trained(self, raw_params: bool = False) -> Trained:
        """Returns the network as it is now, by default with averaged variables."""
        return self.network(self.state, raw_params=raw_params)

    def stop(self, reason: Any) -> None:
        """Ends the run after the other hooks of this moment; the state is saved."""
        self.stopped = reason or "a hook asked for it"


class Hook(contextlib.AbstractContextManager["Hook"]):
    """Does something around the steps; a context from their start to their end.

    Your own hook sets `every` and overrides `__call__`. Whatever it raises, the
    state is saved first.

    Attributes:
        every: the hook is called when the number of steps is a multiple of this; None:
            after each device call.
    """

    every: int | None = None

    def due(self, step: int) -> int | None:
        """Returns where a call that starts at this step must end; None: anywhere."""
        return None if self.every is None else (step // self.every + 1) * self.every

    def __call__(self, now: Moment) -> Numbers | None:
        """Does the hook's work; the result is logged and written by all writers."""
        raise NotImplementedError

    def __exit__(self, *error: object) -> None:
        """Finishes the hook's work, even after an error."""


def run(
    steps: Steps,
    now: Moment,
    max_steps: int,
    hooks: Sequence[Hook],
    record: Callable[[int, dict[str, float]], None],
) -> Moment:
    """Takes steps until max_steps, or until a hook asks to stop.

    Args:
        steps: takes the steps of a device call.
        now: the moment to start from.
        max_steps: the number of steps at the end.
        hooks: the hooks, in calling order.
        record: called with the number of steps and the numbers returned by hooks.
    """
    with contextlib.ExitStack() as stack:
        for hook in hooks:
            stack.enter_context(hook)
        while now.step < max_steps and now.stopped is None:
            end = _end_of_call(now.step, max_steps, hooks)
            began = time.perf_counter()
            state, metrics = steps.train_steps(now.state, now.step, end)
            jax.block_until_ready(metrics)
            seconds = now.seconds + time.perf_counter() - began
            now = Moment(now.step, end, state, metrics, seconds, now.network)
            numbers: dict[str, float] = {}
            for hook in hooks:
                if hook.every is None or end % hook.every == 0:
                    numbers |= as_numbers(hook(now), type(hook).__name__)
            if numbers:
                record(end, numbers)
    return now


def _end_of_call(step: int, max_steps: int, hooks: Sequence[Hook]) -> int:
    """Returns where the next device call ends."""
    ends = {max_steps}
    for hook in hooks:
        if (due := hook.due(step)) is not None:
            if due <= step:
                name = type(hook).__name__
                raise UserError(f"{name}.due({step}) is {due}; it must be later")
            ends.add(due)
    return min(ends)
