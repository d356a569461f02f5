"""The optimizers. An optimizer is given the params and nothing else.

Each one says where weight decay enters: SGD adds it to the gradient, which is the
gradient of a penalty in the loss; the others decay the weights themselves, after the
gradient was rescaled (Loshchilov and Hutter, Decoupled Weight Decay Regularization,
2019).
"""

import dataclasses
from typing import ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree
from optax import contrib

from cifar_jax.checks import check_range
from cifar_jax.optimization.lookahead import lookahead


@runtime_checkable
class Optimizer(Protocol):
    """What a class in OPTIMIZERS provides; its dataclass fields are its options."""

    @property
    def decay_in_loss(self) -> bool:
        """Whether weight decay is a penalty, so that the loss contains it."""
        ...

    def transform(
        self, schedule: optax.Schedule, decay: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        """Returns the transformation of gradients into updates.

        Args:
            schedule: the learning rate of a step.
            decay: adds the weight decay, coefficient times weight, to what passes
                through it.
        """
        ...


@dataclasses.dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent.

    Attributes:
        momentum: weight of the previous update's direction; 0 disables it.
        nesterov: look ahead along the momentum (Sutskever et al., On the Importance of
            Initialization and Momentum in Deep Learning, 2013).
    """

    momentum: float = 0.0
    nesterov: bool = False
    decay_in_loss: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range("momentum", self.momentum, at_least=0, at_most=1)
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum")

    def transform(
        self, schedule: optax.Schedule, decay: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        """Returns the transformation of gradients into updates."""
        sgd = optax.sgd(schedule, self.momentum or None, self.nesterov)
        return optax.chain(decay, sgd)


@dataclasses.dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    decay_in_loss: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_range("b1", self.b1, at_least=0, below=1)
        check_range("b2", self.b2, at_least=0, below=1)
        check_range("eps", self.eps, above=0)

    def transform(
        self, schedule: optax.Schedule, decay: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        """Returns the transformation of gradients into updates."""
        return optax.chain(
            optax.scale_by_adam(self.b1, self.b2, self.eps),
            decay,
            optax.scale_by_learning_rate(schedule),
        )


@dataclasses.dataclass(frozen=True)
class Lion:
    """Sign of the momentum (Chen et al., Symbolic Discovery of Optimization, 2023)."""

    b1: float = 0.9
    b2: float = 0.99
    decay_in_loss: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_range("b1", self.b1, at_least=0, below=1)
        check_range("b2", self.b2, at_least=0, below=1)

    def transform(
        self, schedule: optax.Schedule, decay: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        """Returns the transformation of gradients into updates."""
        return optax.chain(
            optax.scale_by_lion(self.b1, self.b2),
            decay,
            optax.scale_by_learning_rate(schedule),
        )


@dataclasses.dataclass(frozen=True)
class Muon:
    """Orthogonalized momentum for kernels, Adam for everything else.

    A convolution is a matrix of all that a window contains by output channels. (Jordan,
    Muon: An Optimizer for Hidden Layers, https://kellerjordan.github.io/posts/muon)

    Attributes:
        beta: weight of the previous momentum.
        nesterov: look ahead along the momentum.
        steps: Newton-Schulz iterations.
        adam_factor: learning rate of the other parameters over that of kernels.
        keep_norm: before each update, scale kernels to the norm of a matrix whose
            output channels have norm 1, as Jordan's Airbench does.
    """

    beta: float = 0.95
    nesterov: bool = True
    steps: int = 5
    adam_factor: float = 1.0
    keep_norm: bool = False
    decay_in_loss: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_range("beta", self.beta, at_least=0, below=1)
        check_range("steps", self.steps, at_least=1)
        check_range("adam_factor", self.adam_factor, at_least=0)

    def transform(
        self, schedule: optax.Schedule, decay: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        """Returns the transformation of gradients into updates."""
        muon = optax.chain(
            # Jordan's momentum has no bias correction; optax's own Muon has.
            optax.trace(self.beta, self.nesterov),
            contrib.scale_by_muon(
                ns_steps=self.steps,
                beta=0.0,
                eps=1e-7,
                nesterov=False,
                weight_dimension_numbers=_as_matrices,
            ),
            optax.stateless(_scale_by_shape),
        )
        adam = optax.chain(optax.scale_by_adam(), optax.scale(self.adam_factor))
        parts = [
            optax.partition({"kernel": muon, "other": adam}, _kernel_or_other),
            decay,
            optax.scale_by_learning_rate(schedule),
        ]
        if self.keep_norm:
            parts.append(optax.stateless(_add_normalization))
        return optax.chain(*parts)


@dataclasses.dataclass(frozen=True)
class Lookahead:
    """Slow weights that follow another optimizer's, see `lookahead.lookahead`.

    Attributes:
        optimizer: the optimizer that takes the fast steps.
        period: fast steps between two of the slow weights.
        step_size: fraction of the way that the slow weights go.
        cubic: whether that fraction falls from 1 to step_size, as 1 - (1 - step_size) *
            (step / max_steps) ** 3, and the run ends on the slow weights (Jordan, 94%
            on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024, section 3.4).
    """

    optimizer: Optimizer
    period: int = 5
    step_size: float = 0.5
    cubic: bool = False

    def __post_init__(self) -> None:
        if not hasattr(self.optimizer, "transform") or hasattr(
            self.optimizer, "around"
        ):
            raise ValueError(f"optimizer={self.optimizer!r} cannot take the fast steps")
        check_range("period", self.period, at_least=1)
        check_range("step_size", self.step_size, above=0, at_most=1)

    @property
    def decay_in_loss(self) -> bool:
        """As for the fast steps."""
        return self.optimizer.decay_in_loss

    def transform(
        self, schedule: optax.Schedule, decay: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        """Returns the fast transformation of gradients into updates."""
        return self.optimizer.transform(schedule, decay)

    def around(
        self, fast: optax.GradientTransformation, max_steps: int
    ) -> optax.GradientTransformation:
        """Returns the transformation whose fast steps are those of all parameters."""
        if not self.cubic:
            return lookahead(fast, self.period, lambda _: self.step_size)
        return lookahead(
            fast,
            self.period,
            lambda step: 1 - (1 - self.step_size) * (step / max_steps) ** 3,
            max_steps,
        )


def _kernel_or_other(params: PyTree) -> PyTree:
    """Labels the parameters that are matrices or convolutions."""
    return jax.tree.map(lambda p: "kernel" if p.ndim >= 2 else "other", params)


def _as_matrices(params: PyTree) -> PyTree:
    """Says that the last axis of a kernel is its output, and all others its input."""
    return jax.tree.map(
        lambda p: contrib.MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1),
        params,
    )


def _scale_by_shape(updates: PyTree, _: PyTree | None) -> PyTree:
    """Scales matrices by sqrt(max(1, outputs / inputs)), as Jordan's code does."""
    return jax.tree.map(
        lambda u: u * max(1.0, u.shape[-1] ** 2 / u.size) ** 0.5, updates
    )


def _add_normalization(updates: PyTree, params: PyTree | None) -> PyTree:
    """Adds what scales each kernel to the norm sqrt(outputs)."""

    def scaled(update: Array, param: Array) -> Array:
        if param.ndim < 2:
            return update
        norm = jnp.sqrt(jnp.sum(param**2))
        return update + (param.shape[-1] ** 0.5 / norm - 1) * param

    return jax.tree.map(scaled, updates, params)
