"""Loss functions."""

from cifar_jax.optimization.losses.balance import Balanced, with_counts
from cifar_jax.optimization.losses.base import (
    CrossEntropy,
    Extra,
    Loss,
    SquaredError,
    Targets,
    as_probabilities,
    get_extra,
    per_example_loss,
)
from cifar_jax.optimization.losses.labeled import mean_loss
from cifar_jax.optimization.losses.noise import LabelNoise
from cifar_jax.optimization.losses.soft import Distillation, SoftLabels
from cifar_jax.optimization.losses.weights import Weighted

__all__ = [
    "Balanced",
    "CrossEntropy",
    "Distillation",
    "Extra",
    "LabelNoise",
    "Loss",
    "SoftLabels",
    "SquaredError",
    "Targets",
    "Weighted",
    "as_probabilities",
    "get_extra",
    "mean_loss",
    "per_example_loss",
    "with_counts",
]
