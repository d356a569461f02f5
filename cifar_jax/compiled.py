"""The steps of a program, compiled over a training set that lies on the device."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int32, PyTree

from cifar_jax import placement, train_state
from cifar_jax.data import Split
from cifar_jax.data.batches import BatchOrder
from cifar_jax.finite import Losses
from cifar_jax.program import Program
from cifar_jax.steps import Inspection
from cifar_jax.train_state import TrainState


class CompiledSteps:
    """The train step and the look inside, each by the number of the step.

    Compiling happens here and nowhere later. The whole set goes to the device
    once, as bytes; a step sends no more than the indices of its batch.
    """

    def __init__(
        self, program: Program, train: Split, batch_size: int, state: TrainState
    ):
        """Compiles for states like this one, which is left as it is."""
        _, order_key, _ = train_state.streams(state.key)
        self._order = BatchOrder(order_key, len(train), batch_size)
        self._data = jax.device_put((train.images, train.labels))
        arguments = (state, self._data, self._batch(0))
        train_step = jax.jit(_on_batch(program.train_step), donate_argnums=0)
        self._train_step = train_step.lower(*arguments).compile()
        self._inspect = jax.jit(_on_batch(program.inspect)).lower(*arguments).compile()

    def train_step(self, state: TrainState, step: int) -> tuple[TrainState, Losses]:
        """Takes the step of that number; the state given is used up."""
        return self._train_step(state, self._data, self._batch(step))

    def inspect(self, state: TrainState, step: int) -> Inspection:
        """Looks inside the step of that number without taking it."""
        return self._inspect(state, self._data, self._batch(step))

    def placement(self, state: TrainState) -> str:
        """Where the state, the data and the compiled step live, as a table."""
        return placement.describe(state, self._data, self._train_step)

    def _batch(self, step: int) -> Int32[Array, " batch"]:
        return jnp.asarray(self._order(step))


def _on_batch(function: Callable) -> Callable:
    """The function of (state, images, labels) as one of (state, data, indices)."""

    def gathered(state: TrainState, data: PyTree, indices: Array) -> PyTree:
        images, labels = data
        return function(state, images[indices], labels[indices])

    return gathered
