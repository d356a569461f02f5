"""A program's train steps, compiled for a training set."""

import concurrent.futures
import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from cifar_jax.data import Split
from cifar_jax.data.batches import BatchOrder
from cifar_jax.data.own_order import Order
from cifar_jax.devices import compilation, placement
from cifar_jax.devices.strategies import Batches, Jit, Strategy
from cifar_jax.training import inspection, steps, train_state
from cifar_jax.training.batch import Batch
from cifar_jax.training.feeds import Feed, OnDevices, Streamed
from cifar_jax.training.inspection import Inspection
from cifar_jax.training.program import Program
from cifar_jax.training.steps import Metrics
from cifar_jax.training.train_state import TrainState


class _Compiled(NamedTuple):
    """The compiled steps of a program, and the most that a call may take."""

    call: jax.stages.Compiled
    steps_per_call: int


class CompiledSteps:
    """Takes many train steps in one call, or inspects one, by step number.

    The whole training set is sent to the devices once, as bytes, and a call sends only
    the indices of its batches; with `stream`, a call sends their images.

    A call runs a loop on the device with its length as an argument, so one program
    serves all lengths, and results do not depend on how a run is divided into calls.

    Attributes:
        steps_per_call: the largest number of steps in one device call.
    """

    def __init__(
        self,
        program: Program,
        train: Split,
        batch_size: int,
        state: TrainState,
        max_steps_per_call: int,
        strategy: Strategy,
        will_inspect: bool = False,
        drop_remainder: bool = False,
        stream: bool = False,
        order: Order | None = None,
    ):
        """Compiles for states like this one, which is left unchanged.

        Anything this process has already compiled for an equal program is reused.
        States are replicated over `strategy.mesh`. `inspect` is compiled when first
        called, or now if `will_inspect`. `order` replaces a `BatchOrder`.
        """
        self._program = dataclasses.replace(program, share=strategy.share)
        self._strategy = strategy
        # The local copy, since other processes do not take part in this computation.
        key = state.key.addressable_data(0)
        order_key = train_state.streams(key).order
        order = order or BatchOrder(order_key, len(train), batch_size, drop_remainder)
        self._feed: Feed = (
            Streamed(train, order, max_steps_per_call)
            if stream
            else OnDevices(train, order, max_steps_per_call, strategy.mesh)
        )
        # XLA compiles each program on one core, so two at a time.
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            if will_inspect:
                pool.submit(self._compiled_inspect, state)
            step: int | None = int(state.step)
            phases = []
            while step is not None:
                one, step = self._program.at(step)
                phases.append((step, pool.submit(self._compile_steps, one, state)))
            self._phases = [(end, compiled.result()) for end, compiled in phases]
        self.steps_per_call = self._phases[0][1].steps_per_call

    def train_steps(
        self, state: TrainState, first: int, end: int
    ) -> tuple[TrainState, Metrics]:
        """Takes the steps first, first + 1, ..., end - 1, at least one.

        Returns:
            The state after these steps, and the metrics of the last one.
        """
        # The program overwrites its argument, so there are never more than two states.
        state = _copy(state)
        metrics: Metrics = {}
        while first < end:
            stop, (call, most) = next(
                (stop, compiled)
                for stop, compiled in self._phases
                if stop is None or first < stop
            )
            count = min(end, stop or end, first + most) - first
            batches = self._strategy.shard(self._batches(first, count, most))
            before = metrics
            state, metrics = call(state, self._feed.data, batches, count)
            first += count
            if self._feed.data is None:
                # Otherwise the devices could hold the images of all calls at once.
                jax.block_until_ready(before)
        return state, metrics

    def inspect(self, state: TrainState, step: int) -> Inspection:
        """Looks inside the step with this number without taking it."""
        batches = Jit(self._strategy.mesh).shard(self._batches(step, 1, 1))
        return self._compiled_inspect(state)(state, self._feed.data, batches)

    def _compiled_inspect(self, state: TrainState) -> jax.stages.Compiled:
        mesh = self._strategy.mesh
        batches = Jit(mesh).shard(self._batches(0, 1, 1))
        arguments = (state, self._feed.data, batches)
        return inspection.compile_inspect(self._program, mesh, arguments)

    def placement(self, state: TrainState) -> str:
        """Returns a table of where the state, the data and the compiled step are."""
        return placement.describe(state, self._feed.data, self._phases[0][1].call)

    def _batches(self, first: int, count: int, room: int) -> Batches:
        """Returns the batches of these steps, padded to `room` batches."""
        batches = [self._feed.batch(first + i) for i in range(count)]
        if room == 1:  # without copying images
            return jax.tree.map(lambda values: values[None], batches[0])

        def padded(*each: np.ndarray) -> np.ndarray:
            whole = np.zeros((room, *each[0].shape), each[0].dtype)
            np.stack(each, out=whole[:count])
            return whole

        return jax.tree.map(padded, *batches)

    def _compile_steps(self, program: Program, state: TrainState) -> _Compiled:
        """Returns the compiled steps of a program: in a loop, unless that is slow.

        It needs an actual state: with several processes, pmap cannot use shapes alone.
        """
        room = self._feed.max_steps_per_call

        def lowered(looped: bool) -> jax.stages.Lowered:
            function = functools.partial(take_steps, program, looped)
            batches = self._strategy.shard(self._batches(0, 1, room if looped else 1))
            wrapped = self._strategy.wrap(function)
            return wrapped.lower(state, self._feed.data, batches, 1)

        def compiled() -> _Compiled:
            if jax.default_backend() == "cpu":
                once = lowered(looped=False)
                if compilation.is_slow_in_loops(once):
                    return _Compiled(compilation.compile_lowered(once), 1)
            return _Compiled(compilation.compile_lowered(lowered(looped=True)), room)

        batch = self._feed.batch(0)
        what = (take_steps, program, self._strategy, room)
        return compilation.compile_once(what, (state, self._feed.data, batch), compiled)


# Traced only once for all programs that contain it; inlined, so it costs nothing there.
_train_step = jax.jit(steps.train_step, static_argnums=0, inline=True)


@jax.jit
def _copy(state: TrainState) -> TrainState:
    return jax.tree.map(jnp.copy, state)


def take_steps(
    program: Program,
    looped: bool,
    state: TrainState,
    data: PyTree,
    batches: PyTree,
    count: int | Array,
) -> tuple[TrainState, Metrics]:
    """Takes a step on each of the first `count` batches.

    Args:
        program: what is trained and how.
        looped: whether to loop on the device; otherwise `count` is 1.
        state: the state before the steps.
        data: the whole training set, or None if the batches contain their images.
        batches: the results of `Feed.batch`, stacked over steps.
        count: the number of steps, at least one.

    Returns:
        The state after these steps, and the metrics of the last one.
    """

    def body(i: int | Array, state: TrainState) -> tuple[TrainState, Metrics]:
        return _train_step(program, state, Batch.from_batches(data, batches, i))

    if not looped:
        return body(0, state)
    metrics = jax.tree.map(
        lambda like: jnp.zeros(like.shape, like.dtype),
        jax.eval_shape(lambda state: body(0, state)[1], state),
    )
    return jax.lax.fori_loop(
        0, count, lambda i, carry: body(i, carry[0]), (state, metrics)
    )
