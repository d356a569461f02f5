"""Metrics by name: of a train step (METRICS) and of a whole split (EVAL_METRICS)."""

from cifar_jax.metrics.splits import (
    ECE,
    NLL,
    Accuracy,
    BalancedAccuracy,
    PerClass,
    SplitMetric,
    TopK,
)
from cifar_jax.metrics.steps import (
    BatchAccuracy,
    GradNorm,
    Metric,
    ParamNorm,
    UpdateNorm,
)
from cifar_jax.registry import Registry

__all__ = ["EVAL_METRICS", "METRICS", "Metric", "SplitMetric"]

METRICS: Registry[Metric] = Registry(
    Metric,
    {
        "grad_norm": GradNorm,
        "update_norm": UpdateNorm,
        "param_norm": ParamNorm,
        "accuracy": BatchAccuracy,
    },
)
EVAL_METRICS: Registry[SplitMetric] = Registry(
    SplitMetric,
    {
        "accuracy": Accuracy,
        "balanced_accuracy": BalancedAccuracy,
        "top_k": TopK,
        "nll": NLL,
        "ece": ECE,
        "per_class": PerClass,
    },
)
