"""ResNeXt: residual blocks whose 3x3 convolutions are split into groups.

Xie et al., "Aggregated residual transformations for deep neural networks", 2017.
"""

import functools

from flax import linen as nn
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.models.resnet import CifarBottleneckResNet, stages

# Channels of the first convolution.
STEM = 64


class ResNeXt(CifarBottleneckResNet):
    """ResNeXt for CIFAR as in kuangliu/pytorch-cifar.

    32x4d, for example, is a cardinality of 32 and a width of 4. The first convolution
    is 1x1, and blocks have twice as many outputs as their 3x3 convolution. In the
    paper, the first one is 3x3, and blocks of the first stage have 256 outputs at any
    cardinality, so that its 8x64d, for example, has fewer parameters. It is initialized
    as described in `Normalized`.

    Attributes:
        width: Channels of each group in the first stage; each later stage has twice as
            many.
        depths: Number of blocks in each stage, at most 200.
        cardinality: Number of groups.
    """

    width: int = 4
    depths: tuple[int, ...] = (3, 3, 3)
    cardinality: int = 32

    def __post_init__(self) -> None:
        check_range("cardinality", self.cardinality, at_least=1)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        x = nn.relu(self.conv(images, STEM, 1, 1, "conv1", train))
        x = self.tap("conv1_conv", x)
        block = functools.partial(self.block, train=train)
        return self.classify(
            stages(x, self.cardinality * self.width, self.depths, block)
        )

    def block(
        self, x: Array, width: int, strides: int, name: str, train: bool
    ) -> Array:
        """Applies 1x1, 3x3 and 1x1 convolutions, the last one twice as wide."""
        return self.bottleneck(
            x, width, 2 * width, strides, name, train, self.cardinality
        )


resnext29 = functools.partial(ResNeXt, depths=(3, 3, 3))
