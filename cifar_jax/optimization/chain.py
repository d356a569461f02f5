"""The optax chain of a run: an optimizer for all params, then their average."""

from collections.abc import Callable, Sequence
from typing import Any

import optax
from jaxtyping import PyTree

from cifar_jax.optimization import param_groups
from cifar_jax.optimization.averages import Average, average_params
from cifar_jax.optimization.optimizers import Optimizer
from cifar_jax.optimization.param_groups import ParamGroup
from cifar_jax.optimization.weight_decay import WeightDecay
from cifar_jax.optimization.wrappers.accumulate import Accumulate


def create(
    optimizer: Optimizer,
    schedule: Callable[[str], optax.Schedule],
    *,
    max_steps: int,
    weight_decay: WeightDecay,
    average: Average,
    groups: Sequence[ParamGroup] = (),
) -> optax.GradientTransformationExtraArgs:
    """Returns the optax chain of a run.

    From the inside out, it consists of the groups, each with its own decay and learning
    rate; the optimizer's wrappers; the average of the params; and, around all of these,
    gradient accumulation.

    Args:
        optimizer: turns gradients into updates.
        schedule: returns a schedule by name; the run's schedule for an empty name.
        max_steps: the length of the run, in optimizer updates.
        weight_decay: the weight decay of each parameter.
        average: the average of the params.
        groups: parameters with their own settings.

    Raises:
        UserError: a group's optimizer cannot be used inside the run's optimizer. Also
            raised by the chain when it is given params, if a parameter matches the
            patterns of more than one group or a pattern matches no parameter.
    """
    if isinstance(optimizer, Accumulate):
        updates = create(
            optimizer.optimizer,
            schedule,
            max_steps=max_steps,
            weight_decay=weight_decay,
            average=average,
            groups=groups,
        )
        return optimizer.wrap(updates, schedule(""), max_steps)

    def transform(group: ParamGroup) -> optax.GradientTransformation:
        rate = group.rate(schedule(group.schedule), max_steps)
        return group.pick_optimizer(optimizer).transform(rate, weight_decay.transform())

    def around(tx: optax.GradientTransformation) -> optax.GradientTransformation:
        return optimizer.wrap_all(tx, schedule(""), max_steps)

    updates = param_groups.partition(groups, transform, around, max_steps)
    if not average.keeps:
        return optax.with_extra_args_support(updates)
    return _chain(updates, average_params(average, max_steps, optimizer.eval_params))


def _chain(
    first: optax.GradientTransformation, last: optax.GradientTransformationExtraArgs
) -> optax.GradientTransformationExtraArgs:
    """Chains like `optax.chain`, but passes the state of the first to the last."""
    first = optax.with_extra_args_support(first)

    def init(params: PyTree) -> tuple[optax.OptState, optax.OptState]:
        return first.init(params), last.init(params)

    def update(
        gradients: PyTree,
        state: tuple[optax.OptState, optax.OptState],
        params: PyTree | None = None,
        **extra: Any,
    ) -> tuple[PyTree, tuple[optax.OptState, optax.OptState]]:
        updates, opt_state = first.update(gradients, state[0], params, **extra)
        updates, average = last.update(
            updates, state[1], params, **extra, opt_state=opt_state
        )
        return updates, (opt_state, average)

    return optax.GradientTransformationExtraArgs(init, update)
