"""Chooses the training images that a small network finds hardest."""

import dataclasses
import functools
import math
import time
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, Key

from cifar_jax.config.config import Config
from cifar_jax.config.orders import Hardest
from cifar_jax.console import Log
from cifar_jax.data import Dataset
from cifar_jax.data.arrays import rows
from cifar_jax.data.batches import BatchOrder
from cifar_jax.devices.cpu import compiler_options
from cifar_jax.errors import RunError, UserError
from cifar_jax.optimization.losses import (
    Extra,
    Loss,
    Targets,
    per_example_loss,
    with_counts,
)
from cifar_jax.optimization.optimizers import innermost
from cifar_jax.training import program as programs
from cifar_jax.training import train_state
from cifar_jax.training.batch import Batch
from cifar_jax.training.program import Program
from cifar_jax.training.steps import forward, train_step
from cifar_jax.training.train_state import TrainState

# What the proxy's key is derived with from the run's, so that their draws differ.
PROXY = 2**32 - 2
# Between log lines while it chooses.
_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class OfHardest:
    """The mean of the largest losses of a batch.

    Attributes:
        loss: a loss with a number for each example.
        count: how many of them.
    """

    loss: Loss
    count: int
    name: ClassVar[str] = "hardest"

    def __call__(
        self, logits: Float[Array, "n classes"], targets: Targets, extra: Extra
    ) -> Float[Array, ""]:
        """Returns the mean; see `Loss`."""
        each = per_example_loss(self.loss, logits, targets, extra)
        return jax.lax.top_k(each, self.count)[0].mean()


class HardestOrder:
    """The batches that were chosen, one for each step of the run; see `Order`."""

    def __init__(
        self,
        indices: Int32[np.ndarray, "steps batch_size"],
        epochs: Int32[np.ndarray, "steps batch_size"],
    ):
        self.batch_size = indices.shape[1]
        self._indices, self._epochs = indices, epochs

    def __call__(self, step: int) -> dict[str, Int32[np.ndarray, " batch_size"]]:
        """Returns the batch of a step; epochs are those of the pools."""
        # Streaming reads ahead of the last step.
        step = min(step, len(self._indices) - 1)
        return {"indices": self._indices[step], "epochs": self._epochs[step]}


def pool_size(config: Config, order: Hardest) -> int:
    """Returns the number of images that a batch is chosen from."""
    return math.ceil(config.batch_size / order.keep)


def check(config: Config, order: Hardest, dataset: Dataset) -> None:
    """Raises UserError unless batches can be chosen."""
    size, count = pool_size(config, order), len(dataset.train)
    if size > count:
        raise UserError(
            f"--order={config.order} chooses {config.batch_size} of {size} images, but "
            f"there are {count}; pass a smaller --batch_size or a larger keep"
        )
    if config.steps_per_update > 1:
        raise UserError(
            f"--order={config.order} does not go with an --optimizer that accumulates "
            f"gradients, {config.optimizer}"
        )
    if np.any(np.asarray(dataset.train.labels) < 0):
        raise UserError(
            f"--order={config.order} needs labels, but some training images have none"
        )
    if config.drop_remainder:
        raise UserError(
            f"--order={config.order} has no use for --drop_remainder; leave one out"
        )


def choose(config: Config, order: Hardest, dataset: Dataset, log: Log) -> HardestOrder:
    """Trains the proxy, and returns the batches that it chooses.

    The result is a function of config, order and data. It does not depend on the
    number of devices, since each process computes it on its first one.

    Args:
        config: the settings of the run, which are also the proxy's, except for the
            network, averages, and wrappers of the optimizer, such as Lookahead.
        order: how to choose.
        dataset: the data.
        log: called with lines on the progress.

    Raises:
        UserError: settings do not suit the proxy.
        RunError: the proxy's losses are not finite.
    """
    key = jax.random.fold_in(jax.random.key(config.seed), PROXY)
    try:
        program = proxy_program(config, order, dataset)
        state = train_state.create(program, key, dataset.train.images)
    except UserError as error:
        raise UserError(f"the proxy of --order={config.order}: {error}") from None
    pools = create_pools(config, order, dataset, key)
    compiled = functools.partial(jax.jit, compiler_options=compiler_options())
    look = compiled(find_hardest, static_argnums=(0, 3))
    learn = compiled(train_step, static_argnums=0, donate_argnums=1)
    steps, count = config.max_steps, config.batch_size
    log(f"choosing the hardest {count} of each {pools.batch_size} images")
    batches, positions, logged = [], [], time.monotonic()
    for step in range(steps):
        pool = pools(step)
        batch = _read(dataset, pool)
        # Another step number for each pool, so that distortions differ.
        seen = dataclasses.replace(state, step=jnp.int32(step))
        positions.append(look(program, seen, batch, count))
        batches.append(pool)
        if step % order.every == 0:
            state, metrics = learn(program, state, batch)
        if step == steps - 1 or time.monotonic() > logged + _SECONDS:
            logged = time.monotonic()
            loss = float(metrics["total_loss"])
            log(f"chose {step + 1} of {steps} batches; the proxy's loss is {loss:.2f}")
            if not math.isfinite(loss):
                raise RunError(
                    f"the proxy of --order={config.order} diverged; pass a lower "
                    "--learning_rate or another proxy"
                )
    chosen = np.array(jax.device_get(positions))
    indices, epochs = (
        np.take_along_axis(np.stack([pool[name] for pool in batches]), chosen, axis=1)
        for name in ("indices", "epochs")
    )
    return HardestOrder(indices, epochs)


def create_pools(
    config: Config, order: Hardest, dataset: Dataset, key: Key[Array, ""]
) -> BatchOrder:
    """Returns the pool of each step, for the proxy's root key."""
    size = pool_size(config, order)
    return BatchOrder(train_state.streams(key).order, len(dataset.train), size)


def proxy_program(config: Config, order: Hardest, dataset: Dataset) -> Program:
    """Returns what the proxy is trained with: the run's settings, fewer updates."""
    own = dataclasses.replace(
        config,
        model=order.proxy,
        max_steps=math.ceil(config.max_steps / order.every),
        average="none",
        metrics="",
    )
    program = programs.build(own, len(dataset.class_names))
    loss = with_counts(program.loss, dataset.class_counts)
    return dataclasses.replace(
        program,
        optimizer=innermost(program.optimizer),
        loss=OfHardest(loss, config.batch_size),
    )


def find_hardest(
    program: Program, state: TrainState, batch: Batch, count: int
) -> Int32[Array, " count"]:
    """Returns the positions of the images with the largest losses, in their order.

    Args:
        program: the proxy's, with `OfHardest`.
        state: its state.
        batch: the images.
        count: how many to choose.
    """
    assert isinstance(program.loss, OfHardest)
    _, seen = forward(program, state.params, state, batch)
    extra = {**batch.extra, "index": batch.indices}
    each = per_example_loss(program.loss.loss, seen.logits, seen.targets, extra)
    return jnp.sort(jax.lax.top_k(each, count)[1])


def _read(dataset: Dataset, pool: dict[str, Int32[np.ndarray, " n"]]) -> Batch:
    """Returns the images of a pool."""
    train, indices = dataset.train, pool["indices"]
    extra = {name: rows(values, indices) for name, values in train.extra.items()}
    read = {
        "images": rows(train.images, indices),
        "labels": rows(train.labels, indices),
        "extra": extra,
    }
    return Batch(**jax.tree.map(jnp.asarray, read | pool))
