"""What is minimized and how: the losses and the optimizers, by name."""

from collections.abc import Callable

from cifar_jax.optimization.losses import CrossEntropy, Loss, SquaredError
from cifar_jax.optimization.optimizers import (
    SGD,
    AdamW,
    Lion,
    Lookahead,
    Muon,
    Optimizer,
)

__all__ = ["LOSSES", "OPTIMIZERS", "Loss", "Optimizer"]

LOSSES: dict[str, Callable[..., Loss]] = {
    "cross_entropy": CrossEntropy,
    "squared_error": SquaredError,
}
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": SGD,
    "adamw": AdamW,
    "lion": Lion,
    "muon": Muon,
    "lookahead": Lookahead,
}
