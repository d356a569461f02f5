"""Finding out whether, where and when numbers stopped being finite."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from cifar_jax.training import steps
from cifar_jax.training.steps import Inspection
from cifar_jax.training.train_state import TrainState

# Every loss term, by name, of one or more steps.
Losses = dict[str, Float[Array, " steps"]]


class NotFiniteError(Exception):
    """Numbers stopped being finite in a step; `where` says what was first."""

    def __init__(self, step: int, where: str):
        super().__init__(f"step {step}: {where} are not finite")
        self.step, self.where = step, where


def first_non_finite(inside: Inspection) -> str | None:
    """The first thing in the order of computation that is not finite, in words.

    Forward through the layers that show their activations, each one's parameters
    before these, then backward through the gradients. None if all are finite.
    """
    if inside.finite:
        return None
    named = inside.activations
    unnamed = [layer for layer in inside.params if layer not in named]
    for layer in unnamed:
        if not steps.all_finite(inside.params[layer]):
            return f"the parameters of {layer}"
    for layer, activations in named.items():
        if not steps.all_finite(inside.params.get(layer)):
            return f"the parameters of {layer}"
        if not steps.all_finite(activations):
            return f"the activations of {layer}"
    for layer in [*reversed(named), *unnamed]:
        if not steps.all_finite(inside.grads.get(layer)):
            return f"the gradients of {layer}"
    raise AssertionError("every layer is finite, their sum is not")


@jax.jit
def snapshot(state: TrainState) -> tuple[TrainState, Bool[Array, ""]]:
    """A copy, which outlives the donation of the state, and whether it is finite."""
    return jax.tree.map(jnp.copy, state), steps.all_finite(state)


class Guard:
    """Stands between a train state and whoever would keep it.

    It remembers the last state that was seen to be finite; when a later one is
    not, the steps between are taken again, which is exact, with a look inside
    each, until the first number that is not finite shows itself.
    """

    def __init__(
        self,
        state: TrainState,
        train_steps: Callable[[TrainState, int, int], tuple[TrainState, Losses]],
        inspect: Callable[[TrainState, int], Inspection],
    ):
        """Starts from a finite state; the functions are those of CompiledSteps."""
        self._train_steps = train_steps
        self._inspect = inspect
        self._good, _ = snapshot(state)

    def check(self, after: tuple[TrainState, Bool[Array, ""]], losses: Losses) -> None:
        """Accepts the snapshot of a state and the losses on the way to it.

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
            # The copy is ours alone, so the step may take its memory.
            state, losses = self._train_steps(state, step, step + 1)
            for name, loss in losses.items():
                if not np.isfinite(loss).all():
                    return NotFiniteError(step, f"the values of the loss term {name}")
        return NotFiniteError(end - 1, "the updated variables or their averages")
