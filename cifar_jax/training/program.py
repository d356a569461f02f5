"""What is trained and how: everything that is constant in a training run."""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from flax.core import FrozenDict
from jaxtyping import Array, Float, PyTree, Scalar

from cifar_jax import models
from cifar_jax.checks import check_integer, check_type
from cifar_jax.config.config import Config
from cifar_jax.data.preprocessing import Preprocessing
from cifar_jax.devices.share import WHOLE, Share, Whole
from cifar_jax.metrics import METRICS, Metric
from cifar_jax.models import Network
from cifar_jax.optimization import LOSSES, OPTIMIZERS, chain, schedules
from cifar_jax.optimization.averages import AVERAGES, Average
from cifar_jax.optimization.losses import Loss
from cifar_jax.optimization.optimizers import Optimizer
from cifar_jax.optimization.param_groups import (
    PARAM_GROUPS,
    ParamGroup,
    param_name,
    zero_frozen,
)
from cifar_jax.optimization.schedules import ScheduleSettings
from cifar_jax.optimization.weight_decay import WeightDecay
from cifar_jax.registry import resolve, resolve_all
from cifar_jax.training.layer_rates import layer_rates


@dataclasses.dataclass(frozen=True)
class Program:
    """A network and how it is trained; a static argument of the pure functions.

    Programs built from equal settings are equal, so code compiled for one is reused for
    the other.

    Attributes:
        model: the network.
        preprocessing: how images are prepared for the network.
        loss: the loss of logits and targets.
        optimizer: turns gradients into updates.
        groups: parameters with their own settings.
        schedule_name: the learning rate schedule.
        schedule_settings: the settings that it reads.
        weight_decay: the weight decay of each parameter, and penalties in the loss.
        average: the average of the params and the BatchNorm statistics.
        metrics: what each step measures in addition to the losses.
        layer_rates: factors of the learning rate by part of the network, if any.
        frozen: patterns of parameters whose gradients are not needed.
        share: the share of its batch that a step sees.
    """

    model: Network
    preprocessing: Preprocessing
    loss: Loss
    optimizer: Optimizer
    groups: tuple[ParamGroup, ...]
    schedule_name: str
    schedule_settings: ScheduleSettings
    weight_decay: WeightDecay
    average: Average
    metrics: tuple[Metric, ...] = ()
    layer_rates: Mapping[str, float] = dataclasses.field(default_factory=FrozenDict)
    frozen: tuple[str, ...] = ()
    share: Whole | Share = WHOLE

    @functools.cached_property
    def tx(self) -> optax.GradientTransformation:
        """The optax chain: weight decay, schedule, and the average of the params."""
        # It is built when first used, which may be while a step is being traced.
        with jax.ensure_compile_time_eval():
            return chain.create(
                self.optimizer,
                self._schedule,
                max_steps=self.schedule_settings.max_steps,
                weight_decay=self.weight_decay,
                average=self.average,
                groups=self.groups,
                layer_rates=self.layer_rates,
            )

    def learning_rate(self, step: int) -> float:
        """Returns the learning rate at a step, for parameters that are in no group."""
        return float(self._schedule("")(step // self.optimizer.every))

    def _schedule(self, name: str) -> optax.Schedule:
        """Returns a schedule by name; the run's schedule for an empty name."""
        return schedules.create(name or self.schedule_name, self.schedule_settings)

    def at(self, step: int) -> tuple["Program", int | None]:
        """Returns the program for a step, and the step where it ends; None: never.

        That program treats parameters that are no longer trained as constants, so its
        steps give the same results as this program's, in less time.
        """
        updates = self.schedule_settings.max_steps
        ends = [(g.pattern, math.ceil(g.until * updates)) for g in self.groups]
        ends = [(p, end * self.optimizer.every) for p, end in ends if end < updates]
        frozen = tuple(pattern for pattern, end in ends if end <= step)
        later = [end for _, end in ends if end > step]
        return dataclasses.replace(self, frozen=frozen), min(later, default=None)

    @property
    def never_trained(self) -> tuple[str, ...]:
        """Patterns of the parameters that never change."""
        return tuple(group.pattern for group in self.groups if group.frozen)

    def stop_frozen(self, params: PyTree) -> PyTree:
        """Returns the params, with gradients stopped at the frozen ones."""
        return jax.tree_util.tree_map_with_path(
            lambda path, param: (
                jax.lax.stop_gradient(param)
                if any(re.fullmatch(p, param_name(path)) for p in self.frozen)
                else param
            ),
            params,
        )

    def gradient_point(self, params: PyTree, gradients: PyTree) -> PyTree | None:
        """Returns `Optimizer.gradient_point`, with frozen parameters left in place."""
        return self.optimizer.gradient_point(
            params, zero_frozen(gradients, self.groups)
        )

    def loss_terms(
        self, losses: dict[str, Float[Scalar, ""]], params: PyTree
    ) -> dict[str, Float[Array, ""]]:
        """Returns every term of the loss by name, and their sum, `total_loss`.

        Args:
            losses: the terms without weight decay.
            params: the network's params.
        """
        terms = losses | self.weight_decay.penalties(params)
        first, *rest = terms.values()
        return terms | {"total_loss": sum(rest, start=first)}


def build(config: Config, num_classes: int, model: Network | None = None) -> Program:
    """Returns the program of a config for a given number of classes.

    Args:
        config: the config of a run.
        num_classes: the number of classes.
        model: a network in place of the one named by the config; its number of classes,
            dtype and ops are set in the same way.

    Raises:
        UserError: an argument cannot be used.
    """
    check_type(config, "config", Config)
    num_classes = check_integer(num_classes, "num_classes", at_least=1)
    dtype = jnp.bfloat16 if config.use_fp16 else jnp.float32
    optimizer = resolve(config.optimizer, OPTIMIZERS, "optimizer")
    groups = resolve_all(config.param_groups, PARAM_GROUPS, "param_groups")
    if model is None:
        model = models.create(config.model, num_classes, dtype, config.ops)
    else:
        models.check(model)
        model = model.clone(num_classes=num_classes, dtype=dtype, ops=config.ops)
    return Program(
        model=model,
        preprocessing=config.preprocessing,
        loss=resolve(config.loss, LOSSES, "loss"),
        optimizer=optimizer,
        groups=groups,
        schedule_name=config.schedule,
        schedule_settings=config.schedule_settings,
        weight_decay=WeightDecay(
            config.weight_decay, optimizer.decay_in_loss, model.weight_decays, groups
        ),
        average=resolve(config.average, AVERAGES, "average"),
        metrics=resolve_all(config.metrics, METRICS, "metrics"),
        layer_rates=layer_rates(model, config.image_size, config.layer_decay),
    )
