"""Operations of networks that XLA's CPU code is slow at, or that Flax lacks.

Images are (height, width, channel, batch) here, the layout of cuda-convnet: with
the batch innermost every slice of an image is long runs of memory, and convolutions
are matrix products that need no transposition.
"""

from cifar_jax.ops.conv import Conv, conv
from cifar_jax.ops.implementation import Implementation
from cifar_jax.ops.local_response_norm import local_response_norm
from cifar_jax.ops.pool import max_pool

__all__ = ["Conv", "Implementation", "conv", "local_response_norm", "max_pool"]
