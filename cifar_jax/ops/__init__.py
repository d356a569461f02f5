"""Network operations that are slow in XLA's CPU code or missing from Flax.

Images are laid out as (height, width, channel, batch), as in cuda-convnet: with the
batch innermost, every slice of an image consists of long contiguous runs of memory,
and convolutions are matrix products that need no transposition. The exception is
`conv_general_dilated`, which takes Flax's layout, with the batch first.
"""

from cifar_jax.ops.conv import Conv, conv
from cifar_jax.ops.implementation import Implementation
from cifar_jax.ops.local_response_norm import local_response_norm
from cifar_jax.ops.pool import max_pool
from cifar_jax.ops.tiny_images import conv_general_dilated

__all__ = [
    "Conv",
    "Implementation",
    "conv",
    "conv_general_dilated",
    "local_response_norm",
    "max_pool",
]
