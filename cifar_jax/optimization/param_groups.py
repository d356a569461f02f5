"""Groups of parameters that are updated differently from the rest."""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import DictKey
from jaxtyping import Array, Int, PyTree

from cifar_jax.checks import check_range
from cifar_jax.errors import UserError
from cifar_jax.optimization.optimizers import OPTIMIZERS, Optimizer, Wrapper
from cifar_jax.optimization.schedules import SCHEDULES
from cifar_jax.registry import Registry, resolve


@dataclasses.dataclass(frozen=True)
class ParamGroup:
    """Parameters that are updated differently from the rest.

    Attributes:
        pattern: regular expression for whole paths, such as `conv1/.*` or `.*/bias`.
        learning_rate: factor of the learning rate.
        weight_decay: factor of the weight decay for all parameters in the group, even
            those that are not kernels; None: the group has no effect on weight decay.
        schedule: a schedule in quotes; empty for the run's schedule.
        optimizer: an optimizer in quotes, such as 'sgd(momentum=0.9)', used inside the
            run's wrappers; empty for the run's optimizer.
        until: fraction of the run after which the learning rate is 0.
        frozen: whether the parameters stay fixed; a BatchNorm layer whose bias is
            frozen uses its running averages, which then stay fixed too.
    """

    pattern: str
    learning_rate: float = 1.0
    weight_decay: float | None = None
    schedule: str = ""
    optimizer: str = ""
    until: float = 1.0
    frozen: bool = False

    def __post_init__(self) -> None:
        check_range("learning_rate", self.learning_rate, above=0)
        if self.weight_decay is not None:
            check_range("weight_decay", self.weight_decay, at_least=0)
        check_range("until", self.until, above=0, at_most=1)
        try:
            if self.schedule:
                resolve(self.schedule, SCHEDULES, "schedule")
            own = self.own_optimizer
        except UserError as error:
            raise ValueError(str(error).removeprefix("--")) from None
        if isinstance(own, Wrapper):
            raise ValueError(
                f"optimizer={self.optimizer!r} wraps all parameters together; give it "
                "as --optimizer"
            )
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern={self.pattern!r}: {error}") from None

    @property
    def own_optimizer(self) -> Optimizer | None:
        """The group's own optimizer, or None if it uses the run's."""
        if not self.optimizer:
            return None
        return resolve(self.optimizer, OPTIMIZERS, "optimizer")

    def pick_optimizer(self, optimizer: Optimizer) -> Optimizer:
        """Returns the group's optimizer inside the wrappers of the run's optimizer.

        Raises:
            UserError: the wrappers cannot hold it.
        """
        own = self.own_optimizer
        try:
            return optimizer if own is None else optimizer.replace_innermost(own)
        except ValueError as error:
            raise UserError(f"--param_groups: {self.pattern!r}: {error}") from None

    def rate(self, schedule: optax.Schedule, max_steps: int) -> optax.Schedule:
        """Returns the learning rate schedule of the group."""
        if (self.learning_rate, self.until) == (1, 1):
            return schedule
        end = self.until * max_steps
        factor = self.learning_rate
        return lambda step: jnp.where(step < end, factor * schedule(step), 0.0)


PARAM_GROUPS: Registry[ParamGroup] = Registry(ParamGroup, {"group": ParamGroup})
# The group for parameters that match no pattern, and its label.
REST = ParamGroup(".*")
_REST = "the rest"


def param_name(path: tuple[DictKey, ...]) -> str:
    """Returns the name of the parameter at this path in the tree of params."""
    return "/".join(key.key for key in path)


def find_group(path: tuple[DictKey, ...], groups: Sequence[ParamGroup]) -> ParamGroup:
    """Returns the group of a parameter, or `REST`.

    Raises:
        UserError: the parameter is in more than one group.
    """
    name = param_name(path)
    found = [group for group in groups if re.fullmatch(group.pattern, name)]
    if len(found) > 1:
        raise UserError(
            f"--param_groups: {name} is in more than one group: "
            + " and ".join(repr(group.pattern) for group in found)
        )
    return found[0] if found else REST


def scale_layers(rates: Mapping[str, float]) -> optax.GradientTransformation:
    """Returns a transformation that multiplies updates by the rates of their parts.

    Args:
        rates: a factor for each entry of the params, such as a layer.
    """
    return optax.stateless(
        lambda updates, _: jax.tree_util.tree_map_with_path(
            lambda path, update: rates[path[0].key] * update, updates
        )
    )


def zero_frozen(gradients: PyTree, groups: Sequence[ParamGroup]) -> PyTree:
    """Returns the gradients, with 0 for the parameters of frozen groups."""
    return jax.tree_util.tree_map_with_path(
        lambda path, gradient: (
            jnp.zeros_like(gradient) if find_group(path, groups).frozen else gradient
        ),
        gradients,
    )


def partition(
    groups: Sequence[ParamGroup],
    transform: Callable[[ParamGroup], optax.GradientTransformation],
    around: Callable[[optax.GradientTransformation], optax.GradientTransformation],
    max_steps: int,
) -> optax.GradientTransformation:
    """Returns the transformation of all parameters together.

    Frozen parameters are left out entirely. Gradients of parameters that are no longer
    trained count as 0 in any norm over all gradients.

    Args:
        groups: the param groups.
        transform: returns the transformation for a group.
        around: wraps the transformation of all trained groups together.
        max_steps: the length of the run.

    Raises:
        UserError: raised by the transformation when it is given params, if a parameter
            is in more than one group or a group is empty.
    """
    if not groups:
        return around(transform(REST))
    labels = functools.partial(_labels, groups=groups)
    transforms = {group.pattern: transform(group) for group in groups}
    whole = around(optax.partition(transforms | {_REST: transform(REST)}, labels))
    if any(group.until < 1 for group in groups):
        whole = optax.chain(_stop_ended(groups, max_steps), whole)

    def frozen_or_trained(params: PyTree) -> PyTree:
        _check(groups, params)
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "frozen" if find_group(path, groups).frozen else "trained",
            params,
        )

    return optax.partition(
        {"trained": whole, "frozen": optax.set_to_zero()}, frozen_or_trained
    )


def _labels(params: PyTree, groups: Sequence[ParamGroup]) -> PyTree:
    """Returns the pattern matched by each parameter, or `_REST`."""

    def label(path: tuple[DictKey, ...], _: object) -> str:
        group = find_group(path, groups)
        return _REST if group is REST else group.pattern

    return jax.tree_util.tree_map_with_path(label, params)


def _check(groups: Sequence[ParamGroup], params: PyTree) -> None:
    """Raises UserError unless each group has a parameter."""
    labels = jax.tree.leaves(_labels(params, groups))
    for group in groups:
        if group.pattern not in labels:
            paths = jax.tree_util.tree_leaves_with_path(params)
            raise UserError(
                f"--param_groups: no param matches {group.pattern!r}; the params are "
                + ", ".join(param_name(path) for path, _ in paths)
            )


def _stop_ended(
    groups: Sequence[ParamGroup], max_steps: int
) -> optax.GradientTransformation:
    """Returns a transformation that zeroes a group's gradients after it ends."""

    def init(params: PyTree) -> Int[Array, ""]:
        return jnp.zeros([], jnp.int32)

    def update(
        gradients: PyTree, step: Int[Array, ""], params: Any = None
    ) -> tuple[PyTree, Int[Array, ""]]:
        def trained(path: tuple[DictKey, ...], gradient: Array) -> Array:
            until = find_group(path, groups).until
            if until == 1:
                return gradient
            return jnp.where(step < until * max_steps, gradient, 0)

        return (
            jax.tree_util.tree_map_with_path(trained, gradients),
            optax.safe_increment(step),
        )

    return optax.GradientTransformation(init, update)
