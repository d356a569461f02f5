"""Losses and optimizers, by name."""

from cifar_jax.optimization.losses import (
    Balanced,
    CrossEntropy,
    Distillation,
    LabelNoise,
    Loss,
    SoftLabels,
    SquaredError,
    Weighted,
)
from cifar_jax.optimization.optimizers import OPTIMIZERS, Optimizer
from cifar_jax.registry import Registry

__all__ = ["LOSSES", "OPTIMIZERS", "Loss", "Optimizer"]

LOSSES: Registry[Loss] = Registry(
    Loss,
    {
        "cross_entropy": CrossEntropy,
        "squared_error": SquaredError,
        "weighted": Weighted,
        "balanced": Balanced,
        "soft_labels": SoftLabels,
        "distillation": Distillation,
        "label_noise": LabelNoise,
    },
)
