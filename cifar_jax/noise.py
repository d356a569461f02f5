"""Draws of label noise, for labels in the data and in a loss alike."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int


def draw(
    seed: int,
    fraction: float,
    num_classes: int,
    indices: Int[Array | np.ndarray, " n"],
) -> tuple[Bool[Array, " n"], Int[Array, " n"]]:
    """Returns which images' labels are wrong, and how far away the wrong classes are.

    Both depend only on the seed and the image, whatever the other images are.

    Args:
        seed: the seed of the draws.
        fraction: probability that a label is wrong, from 0 to 1.
        num_classes: the number of classes, n. The distances are uniform from 1 to
            n - 1; a wrong label is (label + distance) % n.
        indices: positions of the images in the training set.
    """

    def one(index: Int[Array, ""]) -> tuple[Bool[Array, ""], Int[Array, ""]]:
        key = jax.random.fold_in(jax.random.key(seed), index)
        whether, which = jax.random.split(key)
        distance = jax.random.randint(which, (), 1, num_classes)
        return jax.random.bernoulli(whether, fraction), distance

    return jax.vmap(one)(jnp.asarray(indices))
