"""Local response normalisation across channels."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def local_response_norm(
    x: Float[Array, "*batch c"],
    depth_radius: int = 4,
    bias: float = 1.0,
    alpha: float = 0.001 / 9.0,
    beta: float = 0.75,
) -> Float[Array, "*batch c"]:
    """Divides by (bias + alpha * sum of squares of the nearby channels)^beta.

    The sum runs over the channels at most `depth_radius` away, fewer at the edges.
    As `tf.nn.lrn`: alpha multiplies the sum, not the mean, which is why the
    tutorial divides it by the 9 channels. (Krizhevsky, Sutskever and Hinton,
    ImageNet Classification with Deep Convolutional Neural Networks, 2012, 3.3.)
    """
    # In bfloat16 a small sum would vanish beside the bias.
    wide = x.astype(jnp.float32)
    channels = x.ndim - 1
    window = [1] * channels + [2 * depth_radius + 1]
    padding = [(0, 0)] * channels + [(depth_radius, depth_radius)]
    nearby = lax.reduce_window(wide * wide, 0.0, lax.add, window, [1] * x.ndim, padding)
    return (wide * (bias + alpha * nearby) ** -beta).astype(x.dtype)
