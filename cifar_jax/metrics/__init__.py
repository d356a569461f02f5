"""What is measured, by name: of a train step (METRICS), and of a whole split."""

from collections.abc import Callable

from cifar_jax.metrics.splits import (
    ECE,
    NLL,
    Accuracy,
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

METRICS: dict[str, Callable[..., Metric]] = {
    "grad_norm": GradNorm,
    "update_norm": UpdateNorm,
    "param_norm": ParamNorm,
    "accuracy": BatchAccuracy,
}
EVAL_METRICS: dict[str, Callable[..., SplitMetric]] = {
    "accuracy": Accuracy,
    "top_k": TopK,
    "nll": NLL,
    "ece": ECE,
    "per_class": PerClass,
}
