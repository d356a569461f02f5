"""The loss: softmax cross-entropy plus weight decay."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree, Scalar


def cross_entropy(
    logits: Float[Array, "n classes"],
    labels: Int[Array, " n"],
    label_smoothing: float = 0.0,
) -> Float[Scalar, ""]:
    """Mean softmax cross-entropy, in nats.

    With label smoothing the targets are (1 - label_smoothing) times the label plus
    label_smoothing times the uniform distribution over all classes (Szegedy et al.,
    Rethinking the Inception Architecture for Computer Vision, 2015, 7).
    """
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if label_smoothing:
        of_label = jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
        loss += label_smoothing * (of_label - logits.mean(axis=-1))
    return loss.mean()


def weight_losses(
    params: PyTree, weight_decays: Mapping[str, float] | None, weight_decay: float
) -> dict[str, Float[Scalar, ""]]:
    """weight_decay * ||W||^2 / 2 of the kernels, biases excluded, by name of the term.

    The half is that of `tf.nn.l2_loss`. Its gradient, weight_decay * W, enters
    the update through the optax chain (`optimizer.create`), not by autodiff.

    Args:
        params: of a network.
        weight_decays: factor for each layer's kernels, a term for each; None: all
            kernels, in one term.
        weight_decay: the coefficient.
    """
    if weight_decays is None:
        return {"weight_loss": weight_decay * _half_squares(params)}
    return {
        f"{layer}/weight_loss": weight_decay * factor * _half_squares(params[layer])
        for layer, factor in weight_decays.items()
    }


def loss_terms(
    cross_entropy: Float[Scalar, ""],
    params: PyTree,
    weight_decays: Mapping[str, float] | None,
    weight_decay: float,
) -> dict[str, Float[Scalar, ""]]:
    """Every term of the loss by name, and their sum: the loss that is reported."""
    decay = weight_losses(params, weight_decays, weight_decay)
    total = sum(decay.values(), start=cross_entropy)
    return {"cross_entropy": cross_entropy, **decay, "total_loss": total}


def _half_squares(params: PyTree) -> Float[Scalar, ""]:
    """||W||^2 / 2 over all kernels."""
    squares = [
        jnp.sum(leaf**2)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if path[-1].key == "kernel"
    ]
    return sum(squares, start=jnp.float32(0)) / 2
