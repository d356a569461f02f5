"""Finding out whether, where and when numbers stopped being finite."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cifar_jax import steps
from cifar_jax.steps import Inspection
from cifar_jax.train_state import TrainState

Losses = dict[str, Float[Array, ""]]


class NotFiniteError(Exception):
    """Numbers stopped being finite in a step; `where` says what was first."""

    def __init__(self, step: int, where: str):
        super().__init__(f"step {step}: {where} are not finite")
        self.step, self.where = step, where


def first_non_finite(inside: Inspection) -> str | None:
    """The first thing in the order of computation that is not finite, in words.

    Forward through the layers, each one's parameters before its activations, then
    backward through the gradients. None if all are finite.
    """
    if inside.finite:
        return None
    for layer, activations in inside.activations.items():
        if not steps.all_finite(inside.params[layer]):
            return f"the parameters of {layer}"
        if not steps.all_finite(activations):
            return f"the activations of {layer}"
    for layer in reversed(inside.activations):
        if not steps.all_finite(inside.grads[layer]):
            return f"the gradients of {layer}"
    raise AssertionError("every layer is finite, their sum is not")


class Guard:
    """Stands between a train state and whoever would keep it.

    It remembers the last state that was seen to be finite; when a later one is
    not, the steps between are taken again, which is exact, with a look inside
    each, until the first number that is not finite shows itself.
    """

    def __init__(
        self,
        state: TrainState,
        train_step: Callable[[TrainState, int], tuple[TrainState, Losses]],
        inspect: Callable[[TrainState, int], Inspection],
    ):
        """Starts from a finite state; the functions take a state and its step."""
        self._train_step = train_step
        self._inspect = inspect
        self._good = _copy(state)

    def check(self, state: TrainState, losses: list[Losses]) -> None:
        """Accepts a state and the losses on the way to it.

        Raises:
            NotFiniteError: some number is not finite.
        """
        totals = [float(terms["total_loss"]) for terms in losses]
        if not (all(map(math.isfinite, totals)) and _all_finite(state)):
            raise self._explain(int(state.step))
        self._good = _copy(state)

    def _explain(self, until: int) -> NotFiniteError:
        state = self._good
        for step in range(int(state.step), until):
            where = first_non_finite(self._inspect(state, step))
            if where is not None:
                return NotFiniteError(step, where)
            # The copy is ours alone, so the step may take its memory.
            state, losses = self._train_step(state, step)
            for name, loss in losses.items():
                if not math.isfinite(loss):
                    return NotFiniteError(step, f"the values of the loss term {name}")
        return NotFiniteError(until - 1, "the updated parameters or their averages")


_all_finite = jax.jit(steps.all_finite)
# Compiled, so that it makes new buffers: the state itself is donated at every step.
_copy = jax.jit(lambda state: jax.tree.map(jnp.copy, state))
