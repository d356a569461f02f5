"""The weight decay of each parameter, for the optimizer and the reported loss."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from flax.core import FrozenDict
from jax.tree_util import DictKey
from jaxtyping import Array, Float, PyTree, Scalar

from cifar_jax.optimization.param_groups import ParamGroup, find_group


@dataclasses.dataclass(frozen=True)
class WeightDecay:
    """The weight decay of every parameter; hashable.

    Only kernels decay, except in groups with a `weight_decay`, where all parameters do.

    Attributes:
        coefficient: the coefficient for all parameters that decay.
        decay_in_loss: whether the run's optimizer makes the decay a penalty in the
            loss; a group's own optimizer may differ.
        factors: factors of the coefficient by layer, for its kernels; 0 for layers not
            listed. None: 1 for every kernel.
        groups: parameters with their own settings.
    """

    coefficient: float
    decay_in_loss: bool
    factors: Mapping[str, float] | None = None
    groups: tuple[ParamGroup, ...] = ()

    def __post_init__(self) -> None:
        if self.factors is not None:
            object.__setattr__(self, "factors", FrozenDict(self.factors))

    def rate(self, path: tuple[DictKey, ...]) -> float:
        """Returns the decay rate of the parameter at this path."""
        group = find_group(path, self.groups)
        if group.frozen:
            return 0.0
        if group.weight_decay is not None:
            return self.coefficient * group.weight_decay
        if path[-1].key != "kernel":
            return 0.0
        if self.factors is None:
            return self.coefficient
        return self.coefficient * self.factors.get(path[0].key, 0.0)

    def transform(self) -> optax.GradientTransformation:
        """Returns the transformation that adds rate * W to the updates."""

        def decay(path: tuple[DictKey, ...], update: Array, param: Array) -> Array:
            rate = self.rate(path)
            return update + rate * param if rate else update

        return optax.stateless(
            lambda updates, params: jax.tree_util.tree_map_with_path(
                decay, updates, params
            )
        )

    def penalties(self, params: PyTree) -> dict[str, Float[Scalar, ""]]:
        """Returns rate * ||W||^2 / 2, summed over parameters, by name of the loss term.

        The factor 1/2 is that of `tf.nn.l2_loss`. If `factors` lists layers, there is a
        term for each layer with a penalty, otherwise one for all. The gradient, rate *
        W, is added by `transform`, not by automatic differentiation.
        """
        terms: dict[str, dict[float, list[Array]]] = {
            f"{layer}/weight_loss": {} for layer in self.factors or ()
        }
        for path, param in jax.tree_util.tree_leaves_with_path(params):
            if (rate := self.rate(path)) and self._in_loss(path):
                layer = "" if self.factors is None else f"{path[0].key}/"
                squares = terms.setdefault(f"{layer}weight_loss", {})
                squares.setdefault(rate, []).append(jnp.sum(param**2))
        return {
            name: sum(
                (rate * (sum(each, start=jnp.float32(0)) / 2) for rate, each in found),
                start=jnp.float32(0),
            )
            for name, squares in terms.items()
            if (found := squares.items())
        }

    def _in_loss(self, path: tuple[DictKey, ...]) -> bool:
        """Returns whether the parameter's decay is a penalty in the loss."""
        own = find_group(path, self.groups).own_optimizer
        return self.decay_in_loss if own is None else own.decay_in_loss
