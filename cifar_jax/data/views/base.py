"""The protocol of views, which evaluation averages over."""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num


@runtime_checkable
class Views(Protocol):
    """What a class in VIEWS provides; its dataclass fields are its options."""

    def __call__(
        self, image: Num[Array, "h w c"], size: int
    ) -> list[Num[Array, "{size} {size} c"]]:
        """Returns the views of an image, each of size x size pixels."""
        ...

    def combine(
        self, logits: Float[Array, "n views classes"]
    ) -> Float[Array, "n classes"]:
        """Returns the images' logits: the logs of the views' mean probabilities."""
        log_probabilities = jax.nn.log_softmax(logits)
        mean = jax.nn.logsumexp(log_probabilities, axis=1)
        return mean - jnp.log(logits.shape[1])
