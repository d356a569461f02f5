"""Means over the examples that have labels."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from cifar_jax.errors import UserError
from cifar_jax.optimization.losses.base import Extra, Loss, Targets


def mean_loss(
    loss: Loss,
    logits: Float[Array, "n classes"],
    targets: Targets,
    extra: Extra,
    mean: Callable[[Array], Array],
) -> tuple[Float[Array, ""], Float[Array, " n"]]:
    """Returns the mean loss of the examples that have labels, and their weights.

    Examples without a label (-1, or probabilities of 0) have weight 0; all others have
    equal ones. Mixtures with images that have no label, whose probabilities sum to less
    than 1, weigh in proportion, and their loss is that of probabilities scaled to sum
    to 1. The weights average to 1 over the whole batch, so that the mean over all
    devices' shares of it is right; they are all 0, and so is the mean, if nothing in it
    has a label.

    Args:
        loss: the loss; if it returns a single number, so does this.
        logits: the network's outputs.
        targets: labels or class probabilities.
        extra: see `Loss`.
        mean: returns the mean of a number over all shares of the batch.

    Raises:
        UserError: the loss returns anything else.
    """
    if targets.ndim == 1:
        known = jnp.asarray(targets >= 0, jnp.float32)
    else:
        known = jnp.minimum(jnp.sum(targets, axis=-1), 1)
        targets = targets / jnp.where(known > 0, known, 1)[:, None]
    share = mean(known.mean())
    weights = known / jnp.where(share > 0, share, 1)
    each = loss(logits, targets, extra)
    if each.shape not in ((), targets.shape[:1]):
        raise UserError(
            f"the loss {loss.name} returned values of shape "
            f"{list(each.shape)}; return one for each of {len(targets)} examples"
        )
    return (each * weights).mean() if each.ndim else each, weights
