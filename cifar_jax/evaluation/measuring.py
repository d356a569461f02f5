"""What evaluations measure: the precision, and what --eval_metrics asks for."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer

from cifar_jax.errors import UserError
from cifar_jax.metrics import EVAL_METRICS, scores
from cifar_jax.metrics.splits import SplitResults
from cifar_jax.registry import resolve_all
from cifar_jax.writers import as_numbers


def measured(
    eval_metrics: str,
    logits: Float[np.ndarray, "n classes"],
    labels: Integer[np.ndarray, " n"],
    class_names: Sequence[str],
) -> dict[str, float]:
    """Returns the tutorial's `precision_at_1` and the other metrics, by name.

    Raises:
        UserError: a metric returns something else than numbers by name, or a name
            that is taken.
        RunError: logits are not finite.
    """
    found = {"precision_at_1": scores.accuracy(logits, labels)}
    results = SplitResults(logits, labels, class_names)
    for metric in resolve_all(eval_metrics, EVAL_METRICS, "eval_metrics"):
        kind = type(metric).__name__
        numbers = as_numbers(metric(results), kind)
        if taken := sorted(found.keys() & numbers.keys()):
            raise UserError(
                f"--eval_metrics={eval_metrics}: {kind} returned {taken[0]}, which is "
                "there already; leave one of them out"
            )
        found |= numbers
    return found


def in_words(found: dict[str, float]) -> str:
    """Returns the metrics besides the precision for a log line."""
    _, *others = found.items()
    return "".join(f"; {name} = {value:.4g}" for name, value in others)
