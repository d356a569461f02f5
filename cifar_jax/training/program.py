"""What is trained and how: the parts that the pure functions of steps.py are given."""

import dataclasses
import functools
import itertools
import math
import re
import sys

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree, Scalar

from cifar_jax import models
from cifar_jax.checks import check_integer, check_type
from cifar_jax.config.config import Config
from cifar_jax.data.preprocessing import Preprocessing
from cifar_jax.models import Network
from cifar_jax.optimization import LOSSES, OPTIMIZERS, chain, schedules
from cifar_jax.optimization.averages import AVERAGES, Average
from cifar_jax.optimization.losses import Loss
from cifar_jax.optimization.optimizers import Optimizer
from cifar_jax.optimization.param_groups import PARAM_GROUPS, name_of
from cifar_jax.optimization.weight_decay import WeightDecay
from cifar_jax.registry import resolve, resolve_all


@dataclasses.dataclass(frozen=True)
class Program:
    """A network and how it is trained; hashable, so it can be a static argument.

    Attributes:
        model: the network.
        preprocessing: what is done to images before the network sees them.
        loss: of logits and targets.
        tx: the optax chain.
        schedule: the learning rate of a step.
        weight_decay: of each parameter, and its penalties in the loss.
        optimizer: of which tx is made.
        average: of the params and of BatchNorm's statistics.
        max_updates: the length of the run in updates of the optimizer.
        ends: for groups of parameters that are not trained to the end, the pattern of
            their names and the step from which on they stay as they are.
        frozen: the patterns of parameters whose gradients are not needed.
    """

    model: Network
    preprocessing: Preprocessing
    loss: Loss
    tx: optax.GradientTransformation
    schedule: optax.Schedule
    weight_decay: WeightDecay
    optimizer: Optimizer
    average: Average
    max_updates: int
    ends: tuple[tuple[str, int], ...] = ()
    frozen: tuple[str, ...] = ()

    @property
    def phases(self) -> tuple[range, ...]:
        """The steps that train the same parameters, in order; the last are endless."""
        bounds = sorted({0, *(end for _, end in self.ends), sys.maxsize})
        return tuple(itertools.starmap(range, itertools.pairwise(bounds)))

    def phase(self, step: int) -> range:
        """Returns the phase of a step."""
        return next(phase for phase in self.phases if step in phase)

    def at(self, step: int) -> "Program":
        """Returns the program of this step's phase.

        Its steps give the same parameters as those of this program, in less time.
        """
        frozen = tuple(pattern for pattern, end in self.ends if end <= step)
        return dataclasses.replace(self, frozen=frozen)

    def trained(self, params: PyTree) -> PyTree:
        """Returns the params, with the frozen ones as constants of the gradient."""
        return jax.tree_util.tree_map_with_path(
            lambda path, param: (
                jax.lax.stop_gradient(param)
                if any(re.fullmatch(p, name_of(path)) for p in self.frozen)
                else param
            ),
            params,
        )

    def averaged(self, new: PyTree, average: PyTree, step: Int[Array, ""]) -> PyTree:
        """Returns the average of BatchNorm's statistics after so many steps.

        Like that of the params, it counts updates: other steps leave it as it is.
        """
        every = self.optimizer.every
        updated = self.average.update(new, average, step // every, self.max_updates)
        if every == 1:
            return updated
        return jax.tree.map(
            lambda new, old: jnp.where(step % every == 0, new, old), updated, average
        )

    def penalties(self, params: PyTree) -> dict[str, Float[Scalar, ""]]:
        """Returns the loss terms of weight decay by name."""
        return self.weight_decay.penalties(params)

    def loss_terms(
        self, loss: Float[Scalar, ""], params: PyTree
    ) -> dict[str, Float[Array, ""]]:
        """Returns every term of the loss by name, and their sum, `total_loss`."""
        penalties = self.penalties(params)
        total = sum(penalties.values(), start=loss)
        return {self.loss.name: loss, **penalties, "total_loss": total}


def build(config: Config, num_classes: int) -> Program:
    """Returns the program of a config, for images of this number of classes.

    Raises:
        UserError: an argument cannot be used.
    """
    check_type(config, "config", Config)
    num_classes = check_integer(num_classes, "num_classes", at_least=1)
    dtype = jnp.bfloat16 if config.use_fp16 else jnp.float32
    optimizer = resolve(config.optimizer, OPTIMIZERS, "optimizer")
    schedule = functools.partial(_schedule, config)
    groups = resolve_all(config.param_groups, PARAM_GROUPS, "param_groups")
    model = models.create(config.model, num_classes, dtype, config.ops)
    model = model.clone(frozen=tuple(g.pattern for g in groups if g.frozen))
    weight_decay = WeightDecay(
        config.weight_decay, optimizer.decay_in_loss, model.weight_decays, groups
    )
    average = resolve(config.average, AVERAGES, "average")
    rate = schedule("")
    return Program(
        model=model,
        preprocessing=config.preprocessing,
        loss=resolve(config.loss, LOSSES, "loss"),
        tx=chain.create(
            optimizer,
            schedule,
            max_steps=config.max_updates,
            weight_decay=weight_decay,
            average=average,
            groups=groups,
        ),
        schedule=lambda step: rate(step // optimizer.every),
        weight_decay=weight_decay,
        optimizer=optimizer,
        average=average,
        max_updates=config.max_updates,
        ends=tuple(
            (group.pattern, end * optimizer.every)
            for group in groups
            if (end := math.ceil(group.until * config.max_updates)) < config.max_updates
        ),
    )


def _schedule(config: Config, name: str) -> optax.Schedule:
    """Returns the schedule of a name; that of the run for an empty name."""
    return schedules.create(name or config.schedule, config.schedule_settings)
