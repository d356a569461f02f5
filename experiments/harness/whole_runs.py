"""Whole runs as programs on one device, with nothing around them."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, Key, UInt8

from cifar_jax import (
    Config,
    Dataset,
    Program,
    TrainState,
    UserError,
    build_program,
    compiler_options,
    eval_step,
)
from cifar_jax.config.orders import ORDERS, Shuffled
from cifar_jax.devices.compilation import is_slow_in_loops
from cifar_jax.registry import resolve
from cifar_jax.training import train_state
from cifar_jax.training.compiled import take_steps
from cifar_jax.training.trained import eval_variables

# The most images evaluated at a time.
EVAL_BATCH_SIZE = 2000


class WholeRuns:
    """Whole runs on one device, without logs, summaries or checkpoints.

    Each one matches the train command's run with the same seed, up to rounding. The
    steps of a phase form one loop on the device. On a CPU, where convolutions inside
    loops are slow, each step is a separate call.
    """

    def __init__(self, config: Config, dataset: Dataset):
        """Compiles everything."""
        if not isinstance(resolve(config.order, ORDERS, "order"), Shuffled):
            raise UserError(f"--order={config.order} has no program for whole runs")
        self._config = config
        self._program = build_program(config, len(dataset.class_names))
        train = dataset.train
        images, extra = train.images, dict(train.extra)
        self._data = jax.device_put((images, train.labels, extra))
        size = math.gcd(len(dataset.test), EVAL_BATCH_SIZE)
        self._test = jax.device_put(
            dataset.test.images.reshape(-1, size, *dataset.image_shape)
        )
        self._test_labels = dataset.test.labels
        remainder = len(images) % config.batch_size if config.drop_remainder else 0
        self._images_per_epoch = len(images) - remainder
        seen = train_state.seen_at_start(self._program, images)
        start = functools.partial(train_state.from_statistics, self._program)
        key = jax.random.key(0)
        self._start = _compiled(lambda key: start(key, *seen), key)
        self._order = _compiled(self._indices, key)
        state, order = self._start(key), self._order(key)
        self._phases = []
        step, last = 0, config.max_steps
        while step < last:
            program, end = self._program.at(step)
            end = min(end or last, last)
            self._phases.append(self._compiled_phase(program, step, end, state, order))
            step = end
        self._logits = self._compiled_evaluation(state)

    def train(self, seed: int) -> TrainState:
        """Returns the final state of the run with this seed."""
        key = jax.random.key(seed)
        state, order = self._start(key), self._order(key)
        for take_phase in self._phases:
            state = take_phase(state, order)
        return jax.block_until_ready(state)

    def evaluate(self, state: TrainState) -> float:
        """Returns a run's accuracy on the test set."""
        predicted = np.asarray(self._logits(state)).argmax(-1)
        return float((predicted == self._test_labels).mean())

    def _indices(self, key: Key[Array, ""]) -> Int32[Array, "steps batch"]:
        """Returns the image indices of a run's batches, as `BatchOrder` draws them."""
        config, count = self._config, self._images_per_epoch
        visited = config.max_steps * config.batch_size
        of_epoch = functools.partial(jax.random.fold_in, train_state.streams(key).order)
        orders = jax.lax.map(
            lambda epoch: jax.random.permutation(of_epoch(epoch), len(self._data[0])),
            jnp.arange(math.ceil(visited / count)),
        )
        return orders[:, :count].reshape(-1)[:visited].reshape(config.max_steps, -1)

    def _batches(self, order: Array, first: int, end: int) -> dict[str, Array]:
        """Returns the batches of these steps."""
        size = self._config.batch_size
        positions = jnp.arange(first * size, end * size).reshape(-1, size)
        epochs = positions // self._images_per_epoch
        return {"indices": order[first:end], "epochs": epochs}

    def _compiled_phase(
        self, program: Program, first: int, end: int, state: TrainState, order: Array
    ) -> Callable[[TrainState, Array], TrainState]:
        """Returns the function that takes the steps from `first` to `end`."""

        def lowered(looped: bool, stop: int) -> jax.stages.Lowered:
            steps = functools.partial(take_steps, program, looped)
            batches = self._batches(order, first, stop)
            wrapped = jax.jit(steps, donate_argnums=0)
            return wrapped.lower(state, self._data, batches, stop - first)

        whole = lowered(True, end)
        stride = 1 if is_slow_in_loops(whole) else end - first
        chosen = whole if stride > 1 else lowered(False, first + 1)
        compiled = chosen.compile(compiler_options())

        def take(state: TrainState, order: Array) -> TrainState:
            for step in range(first, end, stride):
                batches = self._batches(order, step, step + stride)
                state, _ = compiled(state, self._data, batches, stride)
            return state

        return take

    def _compiled_evaluation(self, state: TrainState) -> Callable[[TrainState], Array]:
        """Returns the function that computes the logits of the test set."""

        def logits(state: TrainState, images: UInt8[Array, "n h w c"]) -> Array:
            return eval_step(
                eval_variables(self._program, state),
                images,
                state.statistics,
                model=self._program.model,
                preprocessing=self._program.preprocessing,
            )

        def all_logits(state: TrainState, test: UInt8[Array, "m n h w c"]) -> Array:
            found = jax.lax.map(functools.partial(logits, state), test)
            return found.reshape(-1, found.shape[-1])

        lowered = jax.jit(all_logits).lower(state, self._test)
        if not is_slow_in_loops(lowered):
            compiled = lowered.compile(compiler_options())
            return lambda state: compiled(state, self._test)
        one = _compiled(logits, state, self._test[0])
        return lambda state: jnp.concatenate(
            [one(state, images) for images in self._test]
        )


def _compiled(
    function: Callable[..., Any], *arguments: Any, **options: Any
) -> jax.stages.Compiled:
    lowered = jax.jit(function, **options).lower(*arguments)
    return lowered.compile(compiler_options())
