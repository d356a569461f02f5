"""Rejects non-finite train states before they are saved, and finds the cause."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from cifar_jax.training import steps
from cifar_jax.training.steps import Inspection, Losses
from cifar_jax.training.train_state import TrainState


class NotFiniteError(Exception):
    """Numbers stopped being finite in a step; `where` names the first of them."""

    def __init__(self, step: int, where: str):
        super().__init__(f"step {step}: {where} are not finite")
        self.step, self.where = step, where


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


@jax.jit
def snapshot(state: TrainState) -> tuple[TrainState, Bool[Array, ""]]:
    """Returns a copy, which outlives the state's donation, and whether it is finite."""
    return jax.tree.map(jnp.copy, state), steps.all_finite(state)


class Guard:
    """Checks train states before they are kept.

    It remembers the last finite state. If a later one is not finite, the steps between
    them are taken again, which is exact, and each is inspected until the first numbers
    that are not finite are found.
    """

    def __init__(
        self,
        state: TrainState,
        train_steps: Callable[[TrainState, int, int], tuple[TrainState, Losses]],
        inspect: Callable[[TrainState, int], Inspection],
    ):
        """Starts from a finite state; the functions are methods of CompiledSteps."""
        self._train_steps = train_steps
        self._inspect = inspect
        self._good, _ = snapshot(state)

    def check(self, after: tuple[TrainState, Bool[Array, ""]], losses: Losses) -> None:
        """Accepts the snapshot of a state and the losses of the steps before it.

        Raises:
            NotFiniteError: some number is not finite.
        """
        state, finite = after
        if not (finite and np.isfinite(losses["total_loss"]).all()):
            raise self._explain(int(state.step))
        self._good = state

    def _explain(self, end: int) -> NotFiniteError:
        state = self._good
        for step in range(int(state.step), end):
            where = first_non_finite(self._inspect(state, step))
            if where is not None:
                return NotFiniteError(step, where)
            # Nothing else uses this copy, so it can be donated.
            state, losses = self._train_steps(state, step, step + 1)
            for name, loss in losses.items():
                if not np.isfinite(loss).all():
                    return NotFiniteError(step, f"the values of the loss term {name}")
        return NotFiniteError(end - 1, "the updated variables or their averages")
