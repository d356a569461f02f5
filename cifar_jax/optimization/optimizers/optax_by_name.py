"""Any optimizer of optax or optax.contrib, by name."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.core import FrozenDict
from jaxtyping import PyTree
from optax import contrib

from cifar_jax.checks import as_kind, check_range
from cifar_jax.optimization import by_name
from cifar_jax.optimization.optimizers.base import Optimizer

# What to write for those that would otherwise mean something else than in a run.
_OURS = {
    "lookahead": "lookahead(sgd)",
    "muon": "muon, whose matrices include the kernels of convolutions",
    "sam": "sam(sgd)",
    "schedule_free": "schedule_free(sgd)",
    "schedule_free_adamw": "schedule_free(adamw(b1=0))",
    "schedule_free_sgd": "schedule_free(sgd)",
}
# Why others cannot be used.
_UNUSABLE = {
    "cocob": "the learning rate has no effect on it; prodigy and dog also find their "
    "own step size",
    "dpsgd": "it needs the gradient of each image",
    "lbfgs": "its line search evaluates the loss many times in a step",
    "optimistic_adam": "it cannot follow a schedule; optimistic_adam_v2 can",
    "polyak_sgd": "it has no learning rate; momo, which also sees the loss, has one",
    "rprop": "only its first step has the learning rate",
    "sophia": "it needs second derivatives of the loss",
}
# Those whose weight decay is part of the gradient, as by definition in SGD. LARS,
# adadelta and MADGRAD have it there in optax. The others estimate their step size from
# the gradient, which must then be that of all that is minimized.
_DECAY_IN_GRADIENT = (
    *("sgd", "noisy_sgd", "optimistic_gradient_descent"),
    *("lars", "adadelta", "madgrad"),
    *("dadapt_adamw", "dog", "dowg", "prodigy"),
)
# Options that say how much of earlier updates is kept.
_MOMENTUM = ("b1", "beta", "betas", "momentum")
# Has Adam inside.
_ALWAYS_MOMENTUM = ("galore",)
# Options that are the weight of the past in an average.
_WEIGHT = re.compile(r"b\d|betas?\d?|momentum|rho|decay")
_OURS_DECAY = "--weight_decay, and --param_groups for part of the parameters"


@functools.cache
def functions() -> dict[str, Callable[..., optax.GradientTransformation]]:
    """Returns the optimizers of the installed optax that can be used, by name."""
    return {
        name: function
        for name, function in sorted({**vars(contrib), **vars(optax)}.items())
        if inspect.isfunction(function)
        and not name.startswith(("_", "scale_by_"))
        and name not in {**_OURS, **_UNUSABLE}
        and "learning_rate" in inspect.signature(function).parameters
    }


@dataclasses.dataclass(frozen=True)
class OptaxOptimizer(Optimizer):
    """An optimizer of optax or optax.contrib.

    Its own weight decay is off, and that of the run is added around it: to the gradient
    for those in `_DECAY_IN_GRADIENT`, otherwise decoupled, to the updates, times the
    learning rate. In a param group, it sees the parameters of this group only.

    Attributes:
        name: its name in optax.
        options: its options.
    """

    name: str
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.name in _OURS:
            raise ValueError(f"for optax's {self.name}, write {_OURS[self.name]}")
        if self.name in _UNUSABLE:
            raise ValueError(f"optax's {self.name}: {_UNUSABLE[self.name]}")
        function = by_name.find(self.name, functions(), "optimizer")
        decay = dict.fromkeys(self._own_decay, _OURS_DECAY)
        options = by_name.check_options(
            function,
            self.options,
            {"learning_rate": "--learning_rate and --schedule"} | decay,
        )
        values = self._defaults | options
        for option, value in options.items():
            # A default of 1 is a factor of something else.
            if _WEIGHT.fullmatch(option) and self._defaults[option] != 1:
                weight = as_kind(option, value, float | tuple[float, float] | None)
                check_range(option, weight or 0.0, at_least=0, below=1)
            elif option.startswith("eps"):
                check_range(option, value, at_least=0)
        if options.get("nesterov") and not values.get("momentum", True):
            raise ValueError("nesterov needs momentum")
        object.__setattr__(self, "options", FrozenDict(options))
        _check(self)

    @property
    def decay_in_loss(self) -> bool:
        """Whether the weight decay is added to the gradient."""
        return self.name in _DECAY_IN_GRADIENT

    @property
    def has_momentum(self) -> bool:
        """Whether an option for momentum is above 0."""
        values = self._defaults | dict(self.options)
        weights = [values.get(option) for option in _MOMENTUM]
        first = [w[0] if isinstance(w, tuple) else w for w in weights]
        return any(first) or self.name in _ALWAYS_MOMENTUM

    @property
    def _defaults(self) -> dict[str, Any]:
        """The arguments of the function and their defaults."""
        parameters = inspect.signature(functions()[self.name]).parameters
        return {name: parameter.default for name, parameter in parameters.items()}

    @property
    def _own_decay(self) -> dict[str, Any]:
        """The arguments for the optimizer's own weight decay, and their defaults."""
        return {
            name: default
            for name, default in self._defaults.items()
            if "weight_decay" in name or name == "mask"
        }

    def transform(
        self, schedule: optax.Schedule, decay: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        # Some add their momentum after the learning rate, so that it would outlast it.
        stop = optax.scale_by_schedule(lambda step: jnp.sign(schedule(step)))
        optimizer = optax.chain(_unless_empty(self._create(schedule)), stop)
        if self.decay_in_loss:
            return optax.chain(decay, optimizer)
        return optax.chain(optimizer, _add_decoupled(decay, schedule))

    def _create(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Returns the optimizer without weight decay."""
        no_decay = {name: 0.0 for name, own in self._own_decay.items() if own}
        # Made anew in each step, with the learning rate as a number, since not all of
        # them accept a schedule.
        create = optax.inject_hyperparams(
            functions()[self.name],
            static_args=self._defaults.keys() - {"learning_rate"},
            hyperparam_dtype=jnp.float32,
        )
        return create(learning_rate=schedule, **no_decay, **self.options)


def from_optax(name: str, **options: Any) -> OptaxOptimizer:
    """Returns an optimizer of optax, such as `adabelief`, with its options."""
    return OptaxOptimizer(name, options)


@functools.cache
def _check(optimizer: OptaxOptimizer) -> None:
    """Raises ValueError unless the optimizer takes steps with what a run gives it."""

    def step() -> tuple[PyTree, PyTree]:
        params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
        tx = optimizer.transform(lambda step: 0.1, optax.identity())
        tx = optax.with_extra_args_support(tx)
        state = tx.init(params)
        after = tx.update(params, state, params, value=jnp.float32(1))
        return (params, state), after

    before, after = by_name.probe(step)
    if before != after:
        raise ValueError(
            f"with these options, a step of {optimizer.name} changes the types of its "
            "state"
        )


def _add_decoupled(
    decay: optax.GradientTransformation, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Returns the transformation that adds the decay times -learning rate."""
    alone = optax.chain(
        optax.set_to_zero(), decay, optax.scale_by_learning_rate(schedule)
    )

    def update(
        updates: PyTree, state: optax.OptState, params: PyTree | None = None
    ) -> tuple[PyTree, optax.OptState]:
        shrinkage, state = alone.update(updates, state, params)
        return optax.tree.add(updates, shrinkage), state

    return optax.GradientTransformation(alone.init, update)


def _unless_empty(
    tx: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Returns a transformation that also accepts no params at all.

    A group can be all there is, and some optimizers need a param.
    """
    tx = optax.with_extra_args_support(tx)

    def init(params: PyTree) -> optax.OptState:
        return tx.init(params) if jax.tree.leaves(params) else optax.EmptyState()

    def update(
        updates: PyTree,
        state: optax.OptState,
        params: PyTree | None = None,
        **extra: Any,
    ) -> tuple[PyTree, optax.OptState]:
        if not jax.tree.leaves(updates):
            return updates, state
        return tx.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(init, update)
