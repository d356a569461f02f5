"""The loss: softmax cross-entropy plus weight decay."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree, Scalar


def cross_entropy(
    logits: Float[Array, "n classes"], labels: Int[Array, " n"]
) -> Float[Scalar, ""]:
    """Mean softmax cross-entropy, in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def weight_losses(
    params: PyTree, decayed_layers: tuple[str, ...], weight_decay: float
) -> dict[str, Float[Scalar, ""]]:
    """weight_decay * ||W||^2 / 2 of each decayed layer, biases excluded.

    The half is that of `tf.nn.l2_loss`. Its gradient, weight_decay * W, enters
    the update through the optax chain (`optimizer.create`), not by autodiff.
    """
    return {
        layer: weight_decay * jnp.sum(params[layer]["kernel"] ** 2) / 2
        for layer in decayed_layers
    }


def loss_names(decayed_layers: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the terms of `loss_terms`, the tutorial's."""
    weights = tuple(f"{layer}/weight_loss" for layer in decayed_layers)
    return ("cross_entropy", *weights, "total_loss")


def loss_terms(
    cross_entropy: Float[Scalar, ""],
    params: PyTree,
    decayed_layers: tuple[str, ...],
    weight_decay: float,
) -> dict[str, Float[Scalar, ""]]:
    """Every term of the loss by name, and their sum: the loss that is reported."""
    decay = weight_losses(params, decayed_layers, weight_decay)
    terms = [cross_entropy, *decay.values()]
    total = sum(terms, start=jnp.float32(0))
    return dict(zip(loss_names(decayed_layers), [*terms, total], strict=True))
