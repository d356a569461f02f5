"""Sharpness-aware minimization: gradients from where the loss is highest nearby."""

import dataclasses

import jax
import optax
from jaxtyping import PyTree

from cifar_jax.checks import check_range
from cifar_jax.optimization.optimizers.base import Wrapper


@dataclasses.dataclass(frozen=True)
class SAM(Wrapper):
    """Takes gradients a distance away from the params, where the loss is higher.

    A step takes the gradients twice, on the same batch: at the params, for the
    direction, and there, for everything else (Foret et al., Sharpness-Aware
    Minimization for Efficiently Improving Generalization, 2021, algorithm 1). Neither
    includes the weight decay. Metrics and other wrappers see the second gradients, and
    `accumulate` averages those of its batches, each with a point of its own.

    Attributes:
        rho: the distance.
    """

    rho: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("rho", self.rho, above=0)
        inner = self.optimizer
        while isinstance(inner, Wrapper):
            if isinstance(inner, SAM):
                raise ValueError("the optimizer already has sam around it")
            inner = inner.optimizer

    def wrap(
        self,
        tx: optax.GradientTransformation,
        schedule: optax.Schedule,
        max_steps: int,
    ) -> optax.GradientTransformation:
        """Returns tx, which receives the second gradients."""
        return tx

    def gradient_point(self, params: PyTree, gradients: PyTree) -> PyTree:
        """Returns the params plus rho times the gradients scaled to norm 1."""
        # Not NaN if all gradients are 0.
        scale = self.rho / (optax.tree.norm(gradients) + 1e-12)
        return jax.tree.map(lambda p, g: p + scale * g, params, gradients)
