"""Schedule-free learning: an average of the params in place of a schedule."""

import dataclasses
from typing import ClassVar

import jax
import optax
from jaxtyping import Array, PyTree
from optax import contrib

from cifar_jax.checks import check_range
from cifar_jax.optimization.optimizers.base import Wrapper


@dataclasses.dataclass(frozen=True)
class ScheduleFree(Wrapper):
    """Gradients between the params of an optimizer and their average.

    The network is evaluated at the average. Give it a constant schedule, with a
    warm-up. (Defazio et al., The Road Less Scheduled, 2024.) BatchNorm's statistics are
    those of the points where gradients are taken, which are near the average.

    Attributes:
        b1: how far from the optimizer's params to their average gradients are taken,
            from 0 to 1. It takes the place of momentum, so the optimizer has none.
        weight_lr_power: a step's params have the weight max(learning rates so far) **
            weight_lr_power in the average.
    """

    b1: float = 0.9
    weight_lr_power: float = 2.0
    has_weights: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimizer.has_momentum:
            raise ValueError(
                "schedule_free takes the place of momentum; give it an optimizer "
                "without, such as sgd or adamw(b1=0)"
            )
        if self.optimizer.has_weights:
            raise ValueError(
                f"optimizer={self.optimizer!r} has weights beside the params already"
            )
        check_range("b1", self.b1, above=0, below=1)
        check_range("weight_lr_power", self.weight_lr_power, at_least=0)

    def wrap(
        self,
        tx: optax.GradientTransformation,
        schedule: optax.Schedule,
        max_steps: int,
    ) -> optax.GradientTransformation:
        """Returns tx, whose updates move params of its own."""
        return contrib.schedule_free(tx, schedule, self.b1, self.weight_lr_power)

    def eval_params(self, opt_state: optax.OptState, params: PyTree) -> PyTree:
        """Returns the average of the optimizer's params; frozen params stay."""
        state = optax.tree.get(opt_state, contrib.ScheduleFreeState.__name__)

        def average(own: Array | optax.MaskedNode, param: Array) -> Array:
            if isinstance(own, optax.MaskedNode):
                return param
            return contrib.schedule_free_eval_params(state._replace(z=own), param)

        return jax.tree.map(
            average,
            state.z,
            params,
            is_leaf=lambda node: isinstance(node, optax.MaskedNode),
        )
