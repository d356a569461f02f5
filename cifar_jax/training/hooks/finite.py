"""Ends a run that produces non-finite values, and reports where they first occurred."""

from typing import NamedTuple

import jax
import numpy as np

from cifar_jax.errors import DivergedError
from cifar_jax.training.inspection import Inspection, all_finite
from cifar_jax.training.loop import Hook, Moment, Steps
from cifar_jax.training.program import Program
from cifar_jax.training.train_state import TrainState

is_finite = jax.jit(all_finite)


class Finite(Hook):
    """Checks every state before another hook uses it."""

    def __init__(self, program: Program, steps: Steps, state: TrainState):
        """Starts from a finite state."""
        self._program = program
        self._steps = steps
        self._finite = state

    def __call__(self, now: Moment) -> None:
        """Raises DivergedError if the state or the loss is not finite."""
        if not is_finite((now.state, now.metrics["total_loss"])):
            raise divergence_error(self._program, self._steps, self._finite, now.step)
        self._finite = now.state


def divergence_error(
    program: Program, steps: Steps, state: TrainState, end: int
) -> DivergedError:
    """Returns the error that reports where non-finite values first occurred.

    Args:
        program: what is trained.
        steps: the steps of the run.
        state: the last finite state.
        end: the number of steps after which non-finite values were found.
    """
    found = explain(steps, state, end)
    rate = program.learning_rate(found.step)
    return DivergedError(
        f"training diverged at step {found.step}, learning rate {rate:g}: "
        f"{found.where} are not finite"
    )


class NotFinite(NamedTuple):
    """The first step with non-finite values, and their names."""

    step: int
    where: str


def first_non_finite(inspection: Inspection) -> str | None:
    """Names the first non-finite values in order of computation, or returns None.

    The order is forward through the tapped layers, with the parameters of each before
    its activations, then backward through the gradients.
    """
    if inspection.finite:
        return None
    named = inspection.activations
    untapped = [layer for layer in inspection.params if layer not in named]
    for layer in untapped:
        if not all_finite(inspection.params[layer]):
            return f"the parameters of {layer}"
    for layer, activations in named.items():
        if not all_finite(inspection.params.get(layer)):
            return f"the parameters of {layer}"
        if not all_finite(activations):
            return f"the activations of {layer}"
    for layer in [*reversed(named), *untapped]:
        if not all_finite(inspection.grads.get(layer)):
            return f"the gradients of {layer}"
    raise AssertionError("every layer is finite, but not all together")


def explain(steps: Steps, state: TrainState, end: int) -> NotFinite:
    """Returns the first step with non-finite values, and which values they are.

    It retakes the steps, which reproduces them exactly, and inspects each.

    Args:
        steps: the steps of the run.
        state: the last finite state.
        end: the number of steps after which the state or a loss was not finite.
    """
    for step in range(int(state.step), end):
        where = first_non_finite(steps.inspect(state, step))
        if where is not None:
            return NotFinite(step, where)
        terms = state.loss_averages
        state, metrics = steps.train_steps(state, step, step + 1)
        for name in terms:
            if not np.isfinite(metrics[name]).all():
                return NotFinite(step, f"the values of the loss term {name}")
    return NotFinite(end - 1, "the updated variables or their averages")
