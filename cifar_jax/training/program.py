"""The pure functions of steps.py, bound to what a config asks for."""

import dataclasses
import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key, UInt8

from cifar_jax import models
from cifar_jax.checks import check_integer, check_type
from cifar_jax.config.config import Config
from cifar_jax.data.dataset import check_images
from cifar_jax.data.inputs import Inputs
from cifar_jax.models import Network
from cifar_jax.optimization import optimizers as optimizer
from cifar_jax.training import steps, train_state
from cifar_jax.training.train_state import TrainState


@dataclasses.dataclass(frozen=True)
class Program:
    """A network, its optimiser, and the functions that train and read it.

    Attributes:
        model: the network.
        inputs: what is done to images before the network sees them.
        tx: the optax chain.
        schedule: learning rate of a step.
        train_step: (state, images, labels, axis_name=None) -> (state, losses).
        inspect: (state, images, labels) -> Inspection.
    """

    model: Network
    inputs: Inputs
    tx: optax.GradientTransformation
    schedule: optax.Schedule
    train_step: Callable
    inspect: Callable

    def create_state(
        self, key: Key[Array, ""], train_images: UInt8[np.ndarray, "n h w 3"]
    ) -> TrainState:
        """The state at step 0, drawn from a key.

        Args:
            key: the root of all the run's randomness.
            train_images: whose statistics inputs may be normalised by.

        Raises:
            UserError: an argument cannot be used.
        """
        check_images(train_images, "train_images")
        return train_state.create(
            key,
            self.inputs.statistics(train_images),
            model=self.model,
            tx=self.tx,
            size=self.inputs.size,
        )


def build(config: Config, num_classes: int) -> Program:
    """The program of a config for images of so many classes.

    Raises:
        UserError: an argument cannot be used.
    """
    check_type(config, "config", Config)
    num_classes = check_integer(num_classes, "num_classes", at_least=1)
    dtype = jnp.bfloat16 if config.use_fp16 else jnp.float32
    model = models.create(config.model, num_classes, dtype, config.ops)
    schedule = _schedule(config)
    tx = optimizer.create(
        schedule,
        weight_decay=config.weight_decay,
        weight_decays=model.weight_decays,
        ema_decay=config.ema_decay,
        momentum=config.momentum,
        nesterov=config.nesterov,
        bias_learning_rate_factor=config.bias_learning_rate_factor,
    )
    bind = functools.partial(
        functools.partial,
        model=model,
        inputs=config.inputs,
        weight_decay=config.weight_decay,
        label_smoothing=config.label_smoothing,
    )
    return Program(
        model=model,
        inputs=config.inputs,
        tx=tx,
        schedule=schedule,
        train_step=bind(steps.train_step, tx=tx),
        inspect=bind(steps.inspect),
    )


def _schedule(config: Config) -> optax.Schedule:
    """Learning rate of a step."""
    rate, factor = config.learning_rate, config.learning_rate_decay_factor
    if config.schedule == "staircase":
        schedule = optimizer.staircase_schedule(rate, factor, config.decay_steps)
    elif config.schedule == "drops":
        drops = [round(x * config.max_steps) for x in config.learning_rate_drops]
        schedule = optimizer.drops_schedule(rate, factor, drops)
    else:
        schedule = optimizer.cosine_schedule(rate, config.max_steps)
    warmup_steps = round(config.warmup * config.max_steps)
    return optimizer.warmed_up(schedule, warmup_steps) if warmup_steps else schedule
