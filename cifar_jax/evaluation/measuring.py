"""What evaluations measure: the precision, and the metrics in --eval_metrics."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer

from cifar_jax.errors import UserError
from cifar_jax.metrics import EVAL_METRICS, scores
from cifar_jax.metrics.splits import SplitResults
from cifar_jax.registry import resolve_all
from cifar_jax.writers import as_numbers

# With at least this many images, the interval of a precision is narrower than 0.07.
_MANY = 1_000


def measure(
    eval_metrics: str,
    logits: Float[np.ndarray, "n classes"],
    labels: Integer[np.ndarray, " n"],
    class_names: Sequence[str],
) -> dict[str, float]:
    """Returns the tutorial's `precision_at_1` and the other metrics, by name.

    Raises:
        UserError: a metric returns anything but numbers by name, or a name that is
            taken.
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
                "already taken; leave one of them out"
            )
        found |= numbers
    return found


def facts(
    logits: Float[np.ndarray, "n classes"],
    labels: Integer[np.ndarray, " n"],
    examples_in_split: int,
    fingerprint: str,
) -> dict[str, int | str]:
    """Returns details that put a precision in context, for records.

    Returns:
        num_examples: number of evaluated images.
        examples_in_split: number of images in the split.
        largest_class: number of evaluated images in the most frequent class.
        predicted_classes: number of classes predicted at least once.
        fingerprint: fingerprint of the data.
    """
    return {
        "num_examples": len(labels),
        "examples_in_split": examples_in_split,
        "largest_class": int(np.bincount(labels).max()),
        "predicted_classes": len(np.unique(logits.argmax(axis=-1))),
        "fingerprint": fingerprint,
    }


def put_in_perspective(
    logits: Float[np.ndarray, "n classes"],
    labels: Integer[np.ndarray, " n"],
    class_names: Sequence[str],
) -> str | None:
    """Returns what the precision on few images is worth, or None if there are many.

    The text gives its 95% interval (see `scores.wilson_interval`), what guessing would
    reach, and whether the network always gives the same answer.

    Raises:
        RunError: logits are not finite.
    """
    count, counts = len(labels), np.bincount(labels)
    if count >= _MANY:
        return None
    low, high = scores.wilson_interval(scores.num_correct(logits, labels), count)
    words = [
        f"with {count} images, the 95% interval is {low:.3f} to {high:.3f} (Wilson)",
        f"guessing gives {1 / len(class_names):.3f}",
        f"always predicting {class_names[int(counts.argmax())]} gives "
        f"{counts.max() / count:.3f}",
    ]
    if (only := scores.only_prediction(logits)) is not None and count > 1:
        words.append(f"all are predicted as {class_names[only]}")
    return "; ".join(words)


def format_metrics(found: dict[str, float]) -> str:
    """Returns the metrics other than the precision, for a log line."""
    _, *others = found.items()
    return "".join(f"; {name} = {value:.4g}" for name, value in others)
