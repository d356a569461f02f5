"""Gradient accumulation: gradients averaged over several steps."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from cifar_jax.checks import check_range
from cifar_jax.optimization.optimizers.base import Wrapper


@dataclasses.dataclass(frozen=True)
class Accumulate(Wrapper):
    """One update with the mean gradient of several steps, as with a larger batch.

    It wraps everything else, including averages of the params, so schedules and
    anything else that counts steps count updates. BatchNorm still normalizes each
    step's batch by itself.

    Attributes:
        every: the number of steps per update.
    """

    every: int = dataclasses.field()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("every", self.every, at_least=2)

    def wrap(
        self,
        tx: optax.GradientTransformation,
        schedule: optax.Schedule,
        max_steps: int,
    ) -> optax.GradientTransformationExtraArgs:
        """Returns tx, given the mean gradients and the mean `value`.

        Other extra arguments are those of the last step.
        """
        tx = optax.with_extra_args_support(tx)

        # MultiSteps averages whatever it is given as gradients; here that includes the
        # loss.
        def init_inside(params: tuple[PyTree, Array]) -> optax.OptState:
            return tx.init(params[0])

        def update_inside(
            means: tuple[PyTree, Array],
            state: optax.OptState,
            params: tuple[PyTree, Array],
            **extra: Any,
        ) -> tuple[PyTree, optax.OptState]:
            gradients, value = means
            return tx.update(gradients, state, params[0], value=value, **extra)

        steps = optax.MultiSteps(
            optax.GradientTransformationExtraArgs(init_inside, update_inside),
            self.every,
        )

        def init(params: PyTree) -> optax.MultiStepsState:
            return steps.init((params, jnp.zeros([])))

        def update(
            gradients: PyTree,
            state: optax.MultiStepsState,
            params: PyTree | None = None,
            *,
            value: Float[Array, ""] | float = jnp.nan,
            **extra: Any,
        ) -> tuple[PyTree, optax.MultiStepsState]:
            value = jnp.asarray(value, jnp.float32)
            return steps.update((gradients, value), state, (params, value), **extra)

        return optax.GradientTransformationExtraArgs(init, update)
