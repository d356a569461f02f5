"""The optax chain of a run: an optimizer for all params, then their average."""

from collections.abc import Callable, Mapping, Sequence

import optax

from cifar_jax.optimization import param_groups
from cifar_jax.optimization.averages import Average, average_params, chain_with_state
from cifar_jax.optimization.optimizers import Optimizer
from cifar_jax.optimization.param_groups import ParamGroup, scale_layers
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
    layer_rates: Mapping[str, float] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Returns the optax chain of a run.

    From the inside out, it consists of the groups, each with its own decay and learning
    rate, which may differ by layer; the optimizer's wrappers; the average of the
    params; and, around all of these, gradient accumulation.

    Args:
        optimizer: turns gradients into updates.
        schedule: returns a schedule by name; the run's schedule for an empty name.
        max_steps: the length of the run, in optimizer updates.
        weight_decay: the weight decay of each parameter.
        average: the average of the params.
        groups: parameters with their own settings.
        layer_rates: factors of the learning rate by part of the network, if any.

    Raises:
        UserError: a group's optimizer cannot be used inside the run's optimizer. Also
            raised by the chain when it is given params, if a parameter matches the
            patterns of more than one group or a pattern matches no parameter.
    """
    inner = optimizer.optimizer if isinstance(optimizer, Accumulate) else optimizer

    def transform(group: ParamGroup) -> optax.GradientTransformation:
        rate = group.rate(schedule(group.schedule), max_steps)
        tx = group.pick_optimizer(inner).transform(rate, weight_decay.transform())
        return optax.chain(tx, scale_layers(layer_rates)) if layer_rates else tx

    def around(tx: optax.GradientTransformation) -> optax.GradientTransformation:
        return inner.wrap_all(tx, schedule(""), max_steps)

    tx = param_groups.partition(groups, transform, around, max_steps)
    if average.keeps:
        tx = chain_with_state(tx, average_params(average, max_steps, inner.eval_params))
    if isinstance(optimizer, Accumulate):
        tx = optimizer.wrap(tx, schedule(""), max_steps)
    return optax.with_extra_args_support(tx)
