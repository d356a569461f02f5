"""The steps of a program, compiled over a training set that lies on the device."""

import concurrent.futures
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, PyTree

from cifar_jax import placement, train_state
from cifar_jax.data import Split
from cifar_jax.data.batches import BatchOrder
from cifar_jax.finite import Losses
from cifar_jax.program import Program
from cifar_jax.steps import Inspection
from cifar_jax.train_state import TrainState


class CompiledSteps:
    """Many train steps in one call, and the look inside one, by their numbers.

    Compiling happens here and nowhere later. The whole set goes to the device
    once, as bytes; a call sends no more than the indices of its batches.

    A call runs a loop on the device whose length is an argument, so one program
    serves all lengths and how a run is cut into calls changes no bit of it.

    Attributes:
        most: how many steps one call may take.
    """

    def __init__(
        self,
        program: Program,
        train: Split,
        batch_size: int,
        state: TrainState,
        most: int,
    ):
        """Compiles for states like this one, which is left as it is."""
        self.most = most
        _, order_key, _ = train_state.streams(state.key)
        self._order = BatchOrder(order_key, len(train), batch_size)
        self._data = jax.device_put((train.images, train.labels))
        one = (state, self._data, self._batches(0, 1)[0])
        many = (state, self._data, self._batches(0, 1), 1)
        train_step = _on_batch(program.train_step)
        loop = jax.jit(_loop(train_step), donate_argnums=0).lower(*many)
        self._loops = not slow_in_loops(loop)
        if not self._loops:
            loop = jax.jit(train_step, donate_argnums=0).lower(*one)
        inspect = jax.jit(_on_batch(program.inspect)).lower(*one)
        # XLA compiles each on one core, so two at a time.
        with concurrent.futures.ThreadPoolExecutor() as pool:
            self._train, self._inspect = pool.map(
                lambda lowered: lowered.compile(), (loop, inspect)
            )

    def train_steps(
        self, state: TrainState, first: int, end: int
    ) -> tuple[TrainState, Losses]:
        """Takes the steps first, first + 1, ..., end - 1; the state is used up.

        Returns:
            The state after them, and every loss term of each step in order.
        """
        if self._loops:
            batches = self._batches(first, end)
            state, losses = self._train(state, self._data, batches, end - first)
            return state, {k: v[: end - first] for k, v in losses.items()}
        parts = []
        for step in range(first, end):
            batch = self._batches(step, step + 1)[0]
            state, losses = self._train(state, self._data, batch)
            parts.append(losses)
        return state, jax.tree.map(lambda *terms: jnp.stack(terms), *parts)

    def inspect(self, state: TrainState, step: int) -> Inspection:
        """Looks inside the step of that number without taking it."""
        return self._inspect(state, self._data, self._batches(step, step + 1)[0])

    def placement(self, state: TrainState) -> str:
        """Where the state, the data and the compiled step live, as a table."""
        return placement.describe(state, self._data, self._train)

    def _batches(self, first: int, end: int) -> Int32[np.ndarray, "most batch"]:
        """Indices of the batches of these steps, filled up to `most` of them."""
        batches = np.stack([self._order(step) for step in range(first, end)])
        return np.pad(batches, [(0, self.most - len(batches)), (0, 0)])


def _on_batch(function: Callable) -> Callable:
    """The function of (state, images, labels) as one of (state, data, indices)."""

    def gathered(state: TrainState, data: PyTree, indices: Array) -> PyTree:
        images, labels = data
        return function(state, images[indices], labels[indices])

    return gathered


def _loop(train_step: Callable) -> Callable:
    """The train step as a loop over the first `count` of some batches."""

    def loop(
        state: TrainState, data: PyTree, batches: Array, count: Array
    ) -> tuple[TrainState, Losses]:
        def body(i: Array, carry: tuple) -> tuple:
            state, losses = carry
            state, now = train_step(state, data, batches[i])
            return state, jax.tree.map(
                lambda all_, one: all_.at[i].set(one), losses, now
            )

        shapes = jax.eval_shape(train_step, state, data, batches[0])[1]
        losses = jax.tree.map(lambda x: jnp.zeros(len(batches), x.dtype), shapes)
        return jax.lax.fori_loop(0, count, body, (state, losses))

    return loop


def slow_in_loops(lowered: jax.stages.Lowered) -> bool:
    """Whether XLA would run this in a loop far slower than by itself.

    On the CPU a convolution inside a loop misses the fast kernels; its gradients
    take some 30 times as long (https://github.com/jax-ml/jax/issues/12868).
    """
    on_cpu = jax.default_backend() == "cpu"
    return on_cpu and "stablehlo.convolution" in lowered.as_text()
