"""Network operations that are slow in XLA's CPU code or missing from Flax.

Images are laid out as (height, width, channel, batch), as in cuda-convnet: with the
batch innermost, every slice of an image consists of long contiguous runs of memory,
and convolutions are matrix products that need no transposition. The exceptions are
`conv_general_dilated`, `dot_general` and `max_pool_channels_last`, which take Flax's
layout.
"""

from cifar_jax.ops.conv import Conv, conv
from cifar_jax.ops.flax_conv import conv_general_dilated
from cifar_jax.ops.flax_dense import dot_general
from cifar_jax.ops.implementation import Implementation
from cifar_jax.ops.local_response_norm import local_response_norm
from cifar_jax.ops.pool import max_pool, max_pool_channels_last

__all__ = [
    "Conv",
    "Implementation",
    "conv",
    "conv_general_dilated",
    "dot_general",
    "local_response_norm",
    "max_pool",
    "max_pool_channels_last",
]
