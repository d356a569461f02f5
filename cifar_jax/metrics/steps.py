"""Metrics of a train step, in addition to its losses.

They are computed on the devices, from the batch of each step. Metrics of a whole split
are in `splits.py`.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from cifar_jax.errors import UserError
from cifar_jax.optimization.losses import Targets


class StepResults(NamedTuple):
    """What a metric of a train step can be computed from.

    Attributes:
        logits: the network's logits for the batch, or for this device's share of it.
        targets: the targets of the same examples.
        grads: gradients of the loss on the whole batch, without weight decay.
        updates: what the step adds to the params.
        params: the params before the step.
        weights: weights of the examples in means: 0 for those without a label, equal
            for all others, and 1 on average over all devices' shares of the batch.
    """

    logits: Float[Array, "n classes"]
    targets: Targets
    grads: PyTree
    updates: PyTree
    params: PyTree
    weights: Float[Array, " n"] | float = 1.0


@runtime_checkable
class Metric(Protocol):
    """What a class in METRICS provides; its dataclass fields are its options.

    Attributes:
        name: name of the values in logs and summaries.
    """

    name: ClassVar[str]

    def __call__(self, step: StepResults) -> Float[Array, ""]:
        """Returns the value; the values of several devices are averaged."""
        ...


@dataclasses.dataclass(frozen=True)
class GradNorm:
    """L2 norm of all gradients together, before an optimizer clips them."""

    name: ClassVar[str] = "grad_norm"

    def __call__(self, step: StepResults) -> Float[Array, ""]:
        return optax.tree.norm(step.grads)


@dataclasses.dataclass(frozen=True)
class UpdateNorm:
    """L2 norm of what the step adds to the params, learning rate included."""

    name: ClassVar[str] = "update_norm"

    def __call__(self, step: StepResults) -> Float[Array, ""]:
        return optax.tree.norm(step.updates)


@dataclasses.dataclass(frozen=True)
class ParamNorm:
    """L2 norm of all params before the step."""

    name: ClassVar[str] = "param_norm"

    def __call__(self, step: StepResults) -> Float[Array, ""]:
        return optax.tree.norm(step.params)


@dataclasses.dataclass(frozen=True)
class BatchAccuracy:
    """Share of the examples whose highest logit is that of their likeliest target.

    Examples without a label do not count.
    """

    name: ClassVar[str] = "accuracy"

    def __call__(self, step: StepResults) -> Float[Array, ""]:
        """Returns the accuracy; NaN if a logit is NaN."""
        targets = step.targets
        labels = targets if targets.ndim == 1 else targets.argmax(axis=-1)
        right = ((step.logits.argmax(axis=-1) == labels) * step.weights).mean()
        return jnp.where(jnp.isnan(step.logits).any(), jnp.nan, right)


def measure(
    metrics: Sequence[Metric], results: StepResults, losses: Collection[str]
) -> dict[str, Float[Array, ""]]:
    """Returns the metrics of a step by name.

    Args:
        metrics: what to measure.
        results: the results of the step.
        losses: the names of the losses, which are already taken.

    Raises:
        UserError: a metric has no name or one that is taken, or returns no number.
    """
    found: dict[str, Array] = {}
    for metric in metrics:
        kind = type(metric).__name__
        name = getattr(metric, "name", None)
        if not isinstance(name, str) or name in found or name in losses:
            raise UserError(
                f"--metrics: {kind} has the name {name!r}; give it one of its own, as "
                "name: ClassVar[str]"
            )
        value = metric(results)
        if not isinstance(value, Array | np.ndarray | float | int) or np.shape(value):
            raise UserError(f"--metrics: {kind} must return one number, not {value!r}")
        found[name] = jnp.asarray(value, jnp.float32)
    return found
