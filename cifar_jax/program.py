"""The pure functions of steps.py, bound to what a config asks for."""

import dataclasses
import functools
from collections.abc import Callable

import jax.numpy as jnp
import optax
from flax import linen as nn

from cifar_jax import models, optimizer, steps, train_state
from cifar_jax.config import Config


@dataclasses.dataclass(frozen=True)
class Program:
    """A network, its optimiser, and the functions that train and read it.

    Attributes:
        model: the network.
        tx: the optax chain.
        schedule: learning rate of a step.
        create_state: key -> TrainState at step 0.
        train_step: (state, images, labels, axis_name=None) -> (state, losses).
        inspect: (state, images, labels) -> Inspection.
    """

    model: nn.Module
    tx: optax.GradientTransformation
    schedule: optax.Schedule
    create_state: Callable
    train_step: Callable
    inspect: Callable


def build(config: Config, num_classes: int) -> Program:
    """The program of a config for images of so many classes."""
    dtype = jnp.bfloat16 if config.use_fp16 else jnp.float32
    model = models.create(config.model, num_classes, dtype, config.ops)
    schedule = optimizer.staircase_schedule(
        config.learning_rate, config.learning_rate_decay_factor, config.decay_steps
    )
    tx = optimizer.create(
        schedule, model.decayed_layers, config.weight_decay, config.ema_decay
    )
    bind = functools.partial
    return Program(
        model=model,
        tx=tx,
        schedule=schedule,
        create_state=bind(train_state.create, model=model, tx=tx),
        train_step=bind(
            steps.train_step, model=model, tx=tx, weight_decay=config.weight_decay
        ),
        inspect=bind(steps.inspect, model=model, weight_decay=config.weight_decay),
    )
