"""Finds out where the numbers of a train state stopped being finite."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from cifar_jax.training import steps
from cifar_jax.training.steps import Inspection, Losses
from cifar_jax.training.train_state import TrainState


class NotFinite(NamedTuple):
    """The first step with numbers that are not finite, and their names."""

    step: int
    where: str


def first_non_finite(inspection: Inspection) -> str | None:
    """Names the first numbers, in the order of computation, that are not finite.

    That is forward through the recorded layers, the parameters of each before its
    activations, then backward through the gradients. None if all are finite.
    """
    if inspection.finite:
        return None
    named = inspection.activations
    unrecorded = [layer for layer in inspection.params if layer not in named]
    for layer in unrecorded:
        if not steps.all_finite(inspection.params[layer]):
            return f"the parameters of {layer}"
    for layer, activations in named.items():
        if not steps.all_finite(inspection.params.get(layer)):
            return f"the parameters of {layer}"
        if not steps.all_finite(activations):
            return f"the activations of {layer}"
    for layer in [*reversed(named), *unrecorded]:
        if not steps.all_finite(inspection.grads.get(layer)):
            return f"the gradients of {layer}"
    raise AssertionError("every layer is finite, but not all together")


is_finite = jax.jit(steps.all_finite)


def explain(
    state: TrainState,
    end: int,
    train_steps: Callable[[TrainState, int, int], tuple[TrainState, Losses]],
    inspect: Callable[[TrainState, int], Inspection],
) -> NotFinite:
    """Returns the first step whose numbers are not finite, and which of them.

    The steps are taken again, which is exact, and each is inspected.

    Args:
        state: the last finite state.
        end: the number of steps after which the state, or a loss, was not finite.
        train_steps: see `CompiledSteps`.
        inspect: likewise.
    """
    for step in range(int(state.step), end):
        where = first_non_finite(inspect(state, step))
        if where is not None:
            return NotFinite(step, where)
        state, losses = train_steps(state, step, step + 1)
        for name, loss in losses.items():
            if not np.isfinite(loss).all():
                return NotFinite(step, f"the values of the loss term {name}")
    return NotFinite(end - 1, "the updated variables or their averages")
