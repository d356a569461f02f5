"""Operations of networks that XLA's CPU code is slow at, or that Flax lacks.

Images are (height, width, channel, batch) here, the layout of cuda-convnet: with
the batch innermost every slice of an image is long runs of memory, and convolutions
are matrix products that need no transposition. Only `conv_general_dilated` takes
those of Flax, with the batch first.
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
