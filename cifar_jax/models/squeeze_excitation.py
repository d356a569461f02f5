"""Weights for the channels of an image that depend on the whole image.

Hu et al., "Squeeze-and-excitation networks", 2018.
"""

from flax import linen as nn
from jaxtyping import Array, Float

from cifar_jax.models.block import Block


def squeeze_and_excite(
    block: Block, x: Float[Array, "n h w c"], hidden: int, name: str
) -> Float[Array, "n h w c"]:
    """Returns x, each channel of each image multiplied by a number between 0 and 1.

    Args:
        block: The part of the network that gets the two dense layers.
        x: Images.
        hidden: Width of the first dense layer.
        name: What the names of the layers start with.
    """
    squeeze = block.dense(hidden, f"{name}_squeeze")
    excite = block.dense(x.shape[-1], f"{name}_excite")
    seen = block.tap(f"{name}_squeeze", nn.relu(squeeze(x.mean(axis=(1, 2)))))
    weights = block.tap(f"{name}_excite", nn.sigmoid(excite(seen)))
    return x * weights[:, None, None]
