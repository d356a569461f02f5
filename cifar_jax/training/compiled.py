"""The steps of a program, compiled, over a training set."""

import concurrent.futures
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from cifar_jax.data import Split
from cifar_jax.data.batches import BatchOrder
from cifar_jax.devices import placement, sharding
from cifar_jax.devices.compilation import compiler_options, slow_in_loops
from cifar_jax.devices.strategies import Batches, Jit, Strategy
from cifar_jax.training import steps, train_state
from cifar_jax.training.feeds import Feed, OnDevices, Streamed
from cifar_jax.training.program import Program
from cifar_jax.training.steps import Batch, Inspection, Losses
from cifar_jax.training.train_state import TrainState


class CompiledSteps:
    """Many train steps in one call, and the inspection of one, by step numbers.

    The whole set is sent to the devices once, as bytes, and a call sends no more than
    the indices of its batches; with `stream`, a call sends their images.

    A call runs a loop on the device whose length is an argument, so one program serves
    all lengths, and the way that a run is divided into calls changes no bit of it. Each
    phase of the training has a program of its own.

    Attributes:
        max_steps_per_call: the largest number of steps for `train_steps`.
        steps_per_call: the largest number of them in one call of the device.
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
    ):
        """Compiles for states like this one, which is left as it is.

        States are replicated over `strategy.mesh`. The first phase is compiled at once,
        and the later ones in the background. So is `inspect` if it will be needed for
        sure, otherwise it is compiled when it is first called. `drop_remainder` is that
        of `BatchOrder`.
        """
        self.max_steps_per_call = max_steps_per_call
        self._strategy = strategy
        # This process's own copy: what is computed from it concerns no other process.
        key = state.key.addressable_data(0)
        order_key = train_state.streams(key).order
        order = BatchOrder(order_key, len(train), batch_size, drop_remainder)
        self._feed: Feed = (
            Streamed(train, order, max_steps_per_call)
            if stream
            else OnDevices(train, order, max_steps_per_call, strategy.mesh)
        )
        self._program = program
        self._jit = Jit(strategy.mesh)
        whole = NamedSharding(strategy.mesh, PartitionSpec())
        self._like = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), state
        )
        self._function, self.steps_per_call = _loop, self._feed.max_steps_per_call
        self._no_losses = sharding.replicate(
            strategy.mesh,
            {
                name: np.zeros(max_steps_per_call, loss.dtype)
                for name, loss in state.loss_averages.items()
            },
        )
        step = int(state.step)
        lowered = self._lowered(state, step)
        if slow_in_loops(lowered):
            self._function, self.steps_per_call = _once, 1
            lowered = self._lowered(state, step)
        # XLA compiles each program on one core, so two at a time.
        self._compiling = concurrent.futures.ThreadPoolExecutor(2)
        self._first = self._compiling.submit(lowered.compile, compiler_options())
        self._inspect: concurrent.futures.Future[jax.stages.Compiled] | None = None
        if will_inspect:
            self._inspect = self._compiling.submit(self._compiled_inspect)
        self._train = {program.phase(step): self._first} | {
            phase: self._compiling.submit(
                self._lowered(state, phase.start).compile, compiler_options()
            )
            for phase in program.phases
            if phase.start > step
        }
        self._first.result()

    def train_steps(
        self, state: TrainState, first: int, end: int
    ) -> tuple[TrainState, Losses]:
        """Takes the steps first, first + 1, ..., end - 1: max_steps_per_call at most.

        Returns:
            The state after them, and every loss term of each step in order. Zeros
            follow up to max_steps_per_call, because arrays of other lengths would have
            what is done with them compiled again.
        """
        assert end - first <= self.max_steps_per_call
        # The program overwrites its argument, so that there are never more than two.
        state = _copy(state)
        losses, start = self._no_losses, first
        while first < end:
            phase = self._program.phase(first)
            count = min(end, phase.stop, first + self.steps_per_call) - first
            batches = self._strategy.shard(
                self._batches(first, count, self.steps_per_call)
            )
            train = self._train[phase].result()
            before, numbers = losses, (first - start, count)
            state, losses = train(state, (self._feed.data, before), batches, numbers)
            first += count
            if self._feed.data is None:
                # Otherwise the images of all these calls could be on the devices.
                jax.block_until_ready(before)
        return state, losses

    def inspect(self, state: TrainState, step: int) -> Inspection:
        """Looks inside the step of that number without taking it."""
        if self._inspect is None:
            self._inspect = self._compiling.submit(self._compiled_inspect)
        batches = self._jit.shard(self._batches(step, 1, 1))
        return self._inspect.result()(state, self._feed.data, batches)

    def placement(self, state: TrainState) -> str:
        """Describes where the state, the data and the compiled step are, as a table."""
        return placement.describe(state, self._feed.data, self._first.result())

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

    def _compiled_inspect(self) -> jax.stages.Compiled:
        """Compiles for XLA to divide the work, whatever the strategy: it is rare."""
        whole = NamedSharding(self._jit.mesh, PartitionSpec())
        function = functools.partial(_inspect, self._program)
        batches = self._jit.shard(self._batches(0, 1, 1))
        lowered = jax.jit(function, out_shardings=whole).lower(
            self._like, self._feed.data, batches
        )
        return lowered.compile(compiler_options())

    def _lowered(self, state: TrainState, step: int) -> jax.stages.Lowered:
        """Returns the program of this step's phase, before compilation.

        It needs an actual state: in many processes, pmap takes no description of one.
        """
        function = functools.partial(
            self._function, self._program.at(step), self._strategy.axis_name
        )
        batches = self._strategy.shard(self._batches(0, 1, self.steps_per_call))
        data = (self._feed.data, self._no_losses)
        return self._strategy.wrap(function).lower(state, data, batches, (0, 1))


@jax.jit
def _copy(state: TrainState) -> TrainState:
    return jax.tree.map(jnp.copy, state)


def _loop(
    program: Program,
    axis_name: str | None,
    state: TrainState,
    data_and_losses: tuple[PyTree, Losses],
    batches: PyTree,
    numbers: tuple[Array, Array],
) -> tuple[TrainState, Losses]:
    """Takes a step on each of the first batches.

    Two numbers say at which place their losses begin, after those of earlier calls, and
    how many steps there are.
    """
    data, losses = data_and_losses
    place, count = numbers

    def body(i: Array, carry: tuple[TrainState, Losses]) -> tuple[TrainState, Losses]:
        state, losses = carry
        state, now = steps.train_step(
            program, state, _take(data, batches, i), axis_name
        )
        return state, _put(losses, place + i, now)

    return jax.lax.fori_loop(0, count, body, (state, losses))


def _once(
    program: Program,
    axis_name: str | None,
    state: TrainState,
    data_and_losses: tuple[PyTree, Losses],
    batches: PyTree,
    numbers: tuple[Array, Array],
) -> tuple[TrainState, Losses]:
    """Takes a step on the first batch, with the arguments and results of a loop."""
    data, losses = data_and_losses
    state, now = steps.train_step(program, state, _take(data, batches, 0), axis_name)
    return state, _put(losses, numbers[0], now)


def _put(losses: Losses, place: Array, now: Losses) -> Losses:
    """Returns the losses with those of the step at this place."""
    return jax.tree.map(lambda all_, one: all_.at[place].set(one), losses, now)


def _inspect(
    program: Program, state: TrainState, data: PyTree, batches: PyTree
) -> Inspection:
    """Inspects the step on the first batch."""
    return steps.inspect(program, state, _take(data, batches, 0))


def _take(data: PyTree, batches: PyTree, number: int | Array) -> Batch:
    """Returns the batch of that number."""
    batch = jax.tree.map(lambda values: values[number], batches)
    if data is not None:
        own = jax.tree.map(lambda values: values[batch["indices"]], data)
        batch |= dict(zip(("images", "labels", "extra"), own, strict=True))
    return Batch(**batch)
