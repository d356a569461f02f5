"""Runs of one config from several seeds, side by side on one device by jax.vmap."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, Key, UInt8

from cifar_jax import (
    Batch,
    Config,
    Dataset,
    Program,
    TrainState,
    build_program,
    compiler_options,
    eval_step,
    train_step,
)
from cifar_jax.devices.compilation import slow_in_loops
from cifar_jax.training import train_state

# Images evaluated at a time, at most.
EVAL_BATCH_SIZE = 2000


class ParallelRuns:
    """Whole runs on one device, without logs, summaries and checkpoints.

    Each of them is the train command's run of that seed, except for rounding. The steps
    of a phase are one loop on the device; on a CPU, which computes convolutions slowly
    in loops, each step is a call.
    """

    def __init__(self, config: Config, dataset: Dataset, num_seeds: int):
        """Compiles everything for this number of runs at a time."""
        self._config = config
        self._num_seeds = num_seeds
        self._program = build_program(config, len(dataset.class_names))
        images = dataset.train.images
        self._data = jax.device_put((images, dataset.train.labels))
        size = math.gcd(len(dataset.test), EVAL_BATCH_SIZE)
        self._test = jax.device_put(
            dataset.test.images.reshape(-1, size, *dataset.image_shape)
        )
        self._test_labels = dataset.test.labels
        remainder = len(images) % config.batch_size if config.drop_remainder else 0
        self._images_per_epoch = len(images) - remainder
        start = functools.partial(
            train_state.of_statistics,
            self._program,
            statistics=self._program.preprocessing.statistics(images),
            images=images[: max(1, self._program.model.images_for_init)],
        )
        keys = self._keys(0)
        self._start = _compiled(jax.vmap(lambda key: start(key=key)), keys)
        self._order = _compiled(jax.vmap(self._indices), keys)
        states, order = self._start(keys), self._order(keys)
        self._phases = [
            self._compiled_phase(phase, states, order) for phase in self._program.phases
        ]
        self._logits = self._compiled_evaluation(states)

    def train(self, first_seed: int) -> TrainState:
        """Returns the states after the last step of runs with consecutive seeds.

        All their arrays have an additional first axis of runs.
        """
        keys = self._keys(first_seed)
        states, order = self._start(keys), self._order(keys)
        for take_steps in self._phases:
            states = take_steps(states, order)
        return jax.block_until_ready(states)

    def evaluate(self, states: TrainState) -> list[float]:
        """Returns the accuracy of each run on the test set."""
        predicted = np.asarray(self._logits(states)).argmax(-1)
        return (predicted == self._test_labels).mean(axis=1).tolist()

    def _keys(self, first_seed: int) -> Key[Array, " runs"]:
        seeds = range(first_seed, first_seed + self._num_seeds)
        return jnp.stack([jax.random.key(seed) for seed in seeds])

    def _indices(self, key: Key[Array, ""]) -> Int32[Array, "steps batch"]:
        """Returns the images in the batches of a run, as `BatchOrder` draws them."""
        config, count = self._config, self._images_per_epoch
        visited = config.max_steps * config.batch_size
        of_epoch = functools.partial(jax.random.fold_in, train_state.streams(key).order)
        orders = jax.lax.map(
            lambda epoch: jax.random.permutation(of_epoch(epoch), len(self._data[0])),
            jnp.arange(math.ceil(visited / count)),
        )
        return orders[:, :count].reshape(-1)[:visited].reshape(config.max_steps, -1)

    def _step(
        self,
        program: Program,
        data: tuple[Array, Array],
        order: Int32[Array, "steps batch"],
        number: Array,
        state: TrainState,
    ) -> TrainState:
        """Takes the step of that number in one run."""
        images, labels = data
        indices = order[number]
        positions = number * self._config.batch_size + jnp.arange(len(indices))
        epochs = positions // self._images_per_epoch
        batch = Batch(images[indices], labels[indices], indices, epochs)
        return train_step(program, state, batch)[0]

    def _compiled_phase(
        self, phase: range, states: TrainState, order: Array
    ) -> Callable[[TrainState, Array], TrainState]:
        """Returns the function that takes all steps of a phase."""
        step = functools.partial(self._step, self._program.at(phase.start))
        first, end = phase.start, min(phase.stop, self._config.max_steps)
        steps = jax.vmap(step, (None, 0, None, 0))

        def loop(states: TrainState, order: Array, data: Any) -> TrainState:
            return jax.lax.fori_loop(
                first, end, lambda i, states: steps(data, order, i, states), states
            )

        def once(states: TrainState, order: Array, data: Any, i: Array) -> TrainState:
            return steps(data, order, i, states)

        lowered = jax.jit(loop, donate_argnums=0).lower(states, order, self._data)
        if not slow_in_loops(lowered):
            compiled = lowered.compile(compiler_options())
            return lambda states, order: compiled(states, order, self._data)
        one = _compiled(once, states, order, self._data, 0, donate_argnums=0)

        def from_host(states: TrainState, order: Array) -> TrainState:
            for i in range(first, end):
                states = one(states, order, self._data, i)
            return states

        return from_host

    def _compiled_evaluation(self, states: TrainState) -> Callable[[TrainState], Array]:
        """Returns the function that computes the logits of the test set in each run."""

        def logits(states: TrainState, images: UInt8[Array, "n h w c"]) -> Array:
            of_one = functools.partial(
                eval_step,
                model=self._program.model,
                preprocessing=self._program.preprocessing,
            )
            return jax.vmap(
                lambda state: of_one(state.averaged_variables, images, state.statistics)
            )(states)

        def all_logits(states: TrainState, test: UInt8[Array, "m n h w c"]) -> Array:
            found = jax.lax.map(functools.partial(logits, states), test)
            return found.swapaxes(0, 1).reshape(self._num_seeds, -1, found.shape[-1])

        lowered = jax.jit(all_logits).lower(states, self._test)
        if not slow_in_loops(lowered):
            compiled = lowered.compile(compiler_options())
            return lambda states: compiled(states, self._test)
        one = _compiled(logits, states, self._test[0])
        return lambda states: jnp.concatenate(
            [one(states, images) for images in self._test], axis=1
        )


def _compiled(
    function: Callable, *arguments: Any, **options: Any
) -> jax.stages.Compiled:
    lowered = jax.jit(function, **options).lower(*arguments)
    return lowered.compile(compiler_options())
