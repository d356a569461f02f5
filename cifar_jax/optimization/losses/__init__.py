"""Loss functions."""

from cifar_jax.optimization.losses.balance import Balanced, with_counts
from cifar_jax.optimization.losses.base import (
    CrossEntropy,
    Extra,
    Loss,
    SquaredError,
    Targets,
    array_of,
    as_probabilities,
    of_each,
)
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
    "array_of",
    "as_probabilities",
    "of_each",
    "with_counts",
]
