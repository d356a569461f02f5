"""The optax chain: an optimizer for groups of parameters, then their averages."""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from cifar_jax.checks import check_range
from cifar_jax.errors import UserError
from cifar_jax.optimization import OPTIMIZERS
from cifar_jax.optimization.averages import average_params
from cifar_jax.optimization.optimizers import Lookahead, Optimizer
from cifar_jax.optimization.schedules import SCHEDULES
from cifar_jax.registry import resolve

_REST = "the rest"


@dataclasses.dataclass(frozen=True)
class ParamGroup:
    """Parameters that are updated in another way than the rest.

    Attributes:
        pattern: regular expression for whole paths, such as `conv1/.*` or `.*/bias`.
        learning_rate: factor of the learning rate.
        weight_decay: factor of the weight decay of all these parameters, even of those
            that are not kernels; None: they decay as they would without the group.
        schedule: a schedule in quotes; empty for that of the run.
        optimizer: an optimizer in quotes, such as 'sgd(momentum=0.9)'; empty for that
            of the run.
        until: fraction of the run after which the learning rate is 0.
        frozen: whether the parameters stay as they are; a BatchNorm all of whose
            parameters do goes by its running averages, which stay too.
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
            if self.optimizer:
                inner = resolve(self.optimizer, OPTIMIZERS, "optimizer")
                if isinstance(inner, Lookahead):
                    raise ValueError("lookahead is for all parameters together")
        except UserError as error:
            raise ValueError(str(error).removeprefix("--")) from None
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern={self.pattern!r}: {error}") from None


PARAM_GROUPS = {"group": ParamGroup}


def create(
    optimizer: Optimizer,
    schedule: Callable[[str], optax.Schedule],
    *,
    max_steps: int,
    weight_decay: float,
    weight_decays: Mapping[str, float] | None,
    ema_decay: float,
    groups: Sequence[ParamGroup] = (),
) -> optax.GradientTransformation:
    """Returns the optax chain of a run.

    Args:
        optimizer: turns gradients into updates.
        schedule: returns the schedule of a name, that of the run for an empty name.
        max_steps: the length of the run.
        weight_decay: coefficient of the kernels' decay.
        weight_decays: factor of it by layer, see `Network`; None: 1 for every kernel.
        ema_decay: upper limit of the decay of the averages.
        groups: parameters with settings of their own.

    Raises:
        UserError: when the chain is given params, unless each one is in the pattern of
            at most one group, and each pattern matches one.
    """

    def transform(group: ParamGroup) -> optax.GradientTransformation:
        if group.frozen:
            return optax.set_to_zero()
        if group.weight_decay is None:
            decay = decay_kernels(weight_decay, weight_decays)
        else:
            decay = optax.add_decayed_weights(weight_decay * group.weight_decay)
        own = optimizer
        if group.optimizer:
            own = resolve(group.optimizer, OPTIMIZERS, "optimizer")
        rate = _of_group(schedule(group.schedule), group, max_steps)
        return own.transform(rate, decay)

    updates = transform(ParamGroup(".*"))
    if groups:
        transforms = {group.pattern: transform(group) for group in groups}
        labels = functools.partial(_labels, patterns=[g.pattern for g in groups])
        updates = optax.partition(transforms | {_REST: updates}, labels)
    if isinstance(optimizer, Lookahead):
        updates = optimizer.around(updates, max_steps)
    return optax.chain(updates, average_params(ema_decay))


def _of_group(
    schedule: optax.Schedule, group: ParamGroup, max_steps: int
) -> optax.Schedule:
    """Returns a group's own learning rate."""
    if (group.learning_rate, group.until) == (1, 1):
        return schedule
    end = group.until * max_steps
    return lambda step: jnp.where(step < end, group.learning_rate * schedule(step), 0.0)


def decay_kernels(
    coefficient: float, factors: Mapping[str, float] | None
) -> optax.GradientTransformation:
    """Returns the transformation that adds coefficient * factor * W for kernels W.

    Args:
        coefficient: of all kernels.
        factors: by layer, 0 for layers that are not named; None: 1 for every kernel.
    """

    def mask(factor: float, params: PyTree) -> PyTree:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: decay_factor(path, factors) == factor, params
        )

    distinct = {1.0} if factors is None else set(factors.values())
    return optax.chain(
        *(
            optax.add_decayed_weights(
                coefficient * factor, functools.partial(mask, factor)
            )
            for factor in sorted(distinct)
        )
    )


def decay_factor(path: tuple, factors: Mapping[str, float] | None) -> float:
    """Returns the factor of the weight decay of one parameter; 0 unless it is a kernel.

    Args:
        path: of the parameter in the tree of params.
        factors: by layer, see `decay_kernels`.
    """
    if path[-1].key != "kernel":
        return 0.0
    return 1.0 if factors is None else factors.get(path[0].key, 0.0)


def name_of(path: tuple) -> str:
    """Returns the name of a parameter at this path in the tree of params."""
    return "/".join(key.key for key in path)


def _labels(params: PyTree, patterns: Sequence[str]) -> PyTree:
    """Returns the pattern that each parameter matches, and checks that there is one."""
    matched = set()

    def label(path: tuple, _: object) -> str:
        name = name_of(path)
        found = [pattern for pattern in patterns if re.fullmatch(pattern, name)]
        if len(found) > 1:
            raise UserError(
                f"--param_groups: {name} is in more than one group: "
                + " and ".join(map(repr, found))
            )
        matched.update(found)
        return found[0] if found else _REST

    labels = jax.tree_util.tree_map_with_path(label, params)
    if unmatched := [pattern for pattern in patterns if pattern not in matched]:
        names = [
            name_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)
        ]
        raise UserError(
            f"--param_groups: no parameter matches {unmatched[0]!r}; there are "
            + ", ".join(names)
        )
    return labels
