"""Schedule-free learning: averaging the params in place of a schedule."""

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
    """Takes gradients at points between an optimizer's params and their average.

    The network is evaluated at the average. Use it with a constant schedule and a
    warm-up (Defazio et al., The Road Less Scheduled, 2024). BatchNorm statistics come
    from the points where gradients are taken, which are near the average.

    Attributes:
        b1: where gradients are taken, from 0 (the optimizer's params) to 1 (their
            average). It takes the place of momentum, so the optimizer must have none.
        weight_lr_power: the params of a step have weight max(learning rates so far) **
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
                "without momentum, such as sgd or adamw(b1=0)"
            )
        if self.optimizer.has_weights:
            raise ValueError(
                f"optimizer={self.optimizer!r} already keeps weights of its own"
            )
        check_range("b1", self.b1, above=0, below=1)
        check_range("weight_lr_power", self.weight_lr_power, at_least=0)

    def wrap(
        self,
        tx: optax.GradientTransformation,
        schedule: optax.Schedule,
        max_steps: int,
    ) -> optax.GradientTransformation:
        """Returns tx, whose updates move its own copy of the params."""
        return contrib.schedule_free(tx, schedule, self.b1, self.weight_lr_power)

    def eval_params(self, opt_state: optax.OptState, params: PyTree) -> PyTree:
        """Returns the average of the optimizer's params, and frozen params as is."""
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
