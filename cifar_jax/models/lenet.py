"""LeNet: two convolutions with pooling, and three dense layers.

LeCun et al., "Gradient-based learning applied to document recognition", 1998.
"""

from typing import ClassVar

from flax import linen as nn
from jaxtyping import Array, Float

from cifar_jax.models.initializers import torch_uniform
from cifar_jax.models.network import Network


class LeNet(Network):
    """LeNet-5 as commonly used for CIFAR: color images, ReLU, and max pooling.

    All kernels are initialized as in PyTorch, uniformly up to the square root of 1
    divided by the number of inputs; biases are zero.
    """

    # After two convolutions and a pooling, this leaves 2x2 for the last pooling.
    smallest_image: ClassVar[int] = 16
    classifier: ClassVar[tuple[str, ...]] = ("fc1", "fc2", "predictions")

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; training computes the same as evaluation."""
        x = images
        for width, name in ((6, "conv1"), (16, "conv2")):
            conv = self.convolution(
                width, (5, 5), name, padding="VALID", kernel_init=torch_uniform
            )
            x = self.tap(name, nn.relu(conv(x)))
            x = self.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)
        for width, name in ((120, "fc1"), (84, "fc2")):
            dense = self.dense(width, name, kernel_init=torch_uniform)
            x = self.tap(name, nn.relu(dense(x)))
        return self.predictions(x, torch_uniform)
