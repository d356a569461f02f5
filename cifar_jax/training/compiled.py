"""The steps of a program, compiled over a training set that lies on the devices."""

import concurrent.futures
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from cifar_jax.data import Split
from cifar_jax.data.batches import BatchOrder
from cifar_jax.devices import parallel, placement
from cifar_jax.devices.strategies import Batches, ByJit
from cifar_jax.training import train_state
from cifar_jax.training.finite import Losses
from cifar_jax.training.program import Program
from cifar_jax.training.steps import Inspection
from cifar_jax.training.train_state import TrainState


class CompiledSteps:
    """Many train steps in one call, and the look inside one, by their numbers.

    The whole set goes to the devices once, as bytes; a call sends no more than the
    indices of its batches.

    A call runs a loop on the device whose length is an argument, so one program
    serves all lengths and how a run is cut into calls changes no bit of it.

    Attributes:
        most: how many steps one call of `train_steps` is meant for.
        steps_a_call: how many of them one call of the device takes at most.
    """

    def __init__(
        self,
        program: Program,
        train: Split,
        batch_size: int,
        state: TrainState,
        most: int,
        way: ByJit,
        will_inspect: bool = False,
    ):
        """Compiles for states like this one, which is left as it is.

        The state lies whole on every device of `way.mesh`, and so do those that
        `train_steps` returns. `inspect` is compiled now if it is needed for sure, else
        when it is first called.
        """
        self.most = most
        self._way = way
        # A copy of this process alone: what is computed from it concerns no other.
        key = state.key.addressable_data(0)
        _, order_key, _ = train_state.streams(key)
        self._order = BatchOrder(order_key, len(train), batch_size)
        self._data = parallel.replicate(way.mesh, (train.images, train.labels))
        train_step = functools.partial(program.train_step, axis_name=way.axis_name)
        self.steps_a_call, steps = most, self._lower(_loop(train_step), state, most)
        if slow_in_loops(steps):
            self.steps_a_call, steps = 1, self._lower(_once(train_step), state, 1)
        # Seldom called, so it is divided in one way whatever that of the steps.
        self._jit = ByJit(way.mesh)
        self._lowered_inspect = jax.jit(
            _first(program.inspect), out_shardings=way.whole
        ).lower(state, self._data, self._jit.share_out(self._batches(0, 1, 1)), 1)
        # XLA compiles each on one core, so two at a time.
        with concurrent.futures.ThreadPoolExecutor() as pool:
            compiled = pool.submit(steps.compile)
            if will_inspect:
                pool.submit(lambda: self._inspect)
            self._train = compiled.result()

    @functools.cached_property
    def _inspect(self) -> jax.stages.Compiled:
        return self._lowered_inspect.compile()

    def train_steps(
        self, state: TrainState, first: int, end: int
    ) -> tuple[TrainState, Losses]:
        """Takes the steps first, first + 1, ..., end - 1; the state is used up.

        Returns:
            The state after them, and every loss term of each step in order.
        """
        parts = []
        for start in range(first, end, self.steps_a_call):
            count = min(end - start, self.steps_a_call)
            batches = self._way.share_out(
                self._batches(start, count, self.steps_a_call)
            )
            state, losses = self._train(state, self._data, batches, count)
            parts.append({name: loss[:count] for name, loss in losses.items()})
        return state, jax.tree.map(lambda *terms: jnp.concatenate(terms), *parts)

    def inspect(self, state: TrainState, step: int) -> Inspection:
        """Looks inside the step of that number without taking it."""
        batches = self._jit.share_out(self._batches(step, 1, 1))
        return self._inspect(state, self._data, batches, 1)

    def placement(self, state: TrainState) -> str:
        """Where the state, the data and the compiled step live, as a table."""
        return placement.describe(state, self._data, self._train)

    def _batches(self, first: int, count: int, room: int) -> Batches:
        """Indices of the batches of these steps, filled up to `room` batches."""
        batches = np.stack([self._order(first + i) for i in range(count)])
        return np.pad(batches, [(0, room - count), (0, 0)])

    def _lower(
        self, function: Callable, state: TrainState, room: int
    ) -> jax.stages.Lowered:
        batches = self._way.share_out(self._batches(0, 1, room))
        return self._way.spread(function).lower(state, self._data, batches, 1)


# Functions of (state, images, labels) as ones of (state, data, batches, count), where
# batches are indices of images.


def _loop(train_step: Callable) -> Callable:
    """The train step as a loop over the first `count` batches."""

    def loop(
        state: TrainState, data: PyTree, batches: Array, count: Array
    ) -> tuple[TrainState, Losses]:
        def body(i: Array, carry: tuple) -> tuple:
            state, losses = carry
            state, now = train_step(state, *_taken(data, batches[i]))
            return state, jax.tree.map(
                lambda all_, one: all_.at[i].set(one), losses, now
            )

        shapes = jax.eval_shape(train_step, state, *_taken(data, batches[0]))[1]
        losses = jax.tree.map(lambda x: jnp.zeros(len(batches), x.dtype), shapes)
        return jax.lax.fori_loop(0, count, body, (state, losses))

    return loop


def _once(train_step: Callable) -> Callable:
    """The train step on the first batch, with the results of a loop."""
    take_step = _first(train_step)

    def once(*arguments: PyTree) -> tuple[TrainState, Losses]:
        state, losses = take_step(*arguments)
        return state, jax.tree.map(lambda loss: loss[None], losses)

    return once


def _first(function: Callable) -> Callable:
    """The function on the first batch."""

    def on_first(state: TrainState, data: PyTree, batches: Array, _: Array) -> PyTree:
        return function(state, *_taken(data, batches[0]))

    return on_first


def _taken(data: PyTree, indices: Array) -> PyTree:
    """Images and labels of a batch."""
    return jax.tree.map(lambda array: array[indices], data)


def slow_in_loops(lowered: jax.stages.Lowered) -> bool:
    """Whether XLA would run this in a loop far slower than by itself.

    On the CPU a convolution inside a loop misses the fast kernels; its gradients
    take some 30 times as long (https://github.com/jax-ml/jax/issues/12868).
    """
    on_cpu = jax.default_backend() == "cpu"
    return on_cpu and "stablehlo.convolution" in lowered.as_text()
