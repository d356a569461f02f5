"""DenseNet-BC: each layer sees what all layers before it in its block have computed.

Huang et al., "Densely connected convolutional networks", 2017. B is for bottlenecks: a
1x1 convolution before each 3x3 convolution. C is for compression: between blocks, a 1x1
convolution halves the number of channels.
"""

import functools
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.models.initializers import he_normal_of_outputs, torch_uniform
from cifar_jax.models.network import Network


class DenseBlocks(Network):
    """What DenseNets share.

    Kernels are initialized as in the authors' code: normal, with variance 2 divided by
    the number of outputs times the size of the window; in the dense layer, uniform up
    to 1 / sqrt(inputs), with biases of zero. The authors' dropout, for data without
    distortions, is left out.
    """

    def logits(
        self,
        images: Float[Array, "n h w 3"],
        depths: tuple[int, ...],
        growth: int,
        train: bool,
    ) -> Float[Array, "n classes"]:
        """Applies the whole network.

        Args:
            images: Input of the first layer.
            depths: Number of layers in each block.
            growth: Channels that each layer adds.
            train: Whether BatchNorm uses batch statistics.
        """
        layer = functools.partial(self.layer, train=train)
        x = self.conv(images, 2 * growth, 3, "conv1")
        for block, depth in enumerate(depths, 1):
            if block > 1:
                x = layer(x, x.shape[-1] // 2, 1, f"transition{block - 1}")
                x = nn.avg_pool(x, (2, 2), (2, 2))
            for index in range(1, depth + 1):
                name = f"block{block}_layer{index}"
                y = layer(x, 4 * growth, 1, f"{name}_1")
                y = layer(y, growth, 3, f"{name}_2")
                x = jnp.concatenate([x, y], axis=-1)
        x = nn.relu(self.batch_norm("last_bn", train)(x))
        return self.predictions(x.mean(axis=(1, 2)), torch_uniform)

    def layer(self, x: Array, width: int, size: int, name: str, train: bool) -> Array:
        """Applies BatchNorm, ReLU and a convolution."""
        x = nn.relu(self.batch_norm(f"{name}_bn", train)(x))
        return self.conv(x, width, size, name)

    def conv(self, x: Array, width: int, size: int, name: str) -> Array:
        """Applies a convolution without bias that keeps the size of the image."""
        name = f"{name}_conv"
        conv = self.convolution(
            width,
            (size, size),
            name,
            use_bias=False,
            kernel_init=he_normal_of_outputs,
        )
        return self.tap(name, conv(x))


class DenseNet(DenseBlocks):
    """DenseNet-BC as in the paper for CIFAR: three blocks of as many layers.

    Attributes:
        depth: Number of convolutions and dense layers, 6n + 4 for blocks of n layers.
        growth: Channels that each layer adds to its input.
    """

    depth: int = 100
    growth: int = 12

    smallest_image: ClassVar[int] = 4

    def __post_init__(self) -> None:
        check_range("depth", self.depth, at_least=10, at_most=1204)
        if self.depth % 6 != 4:
            raise ValueError(
                f"depth={self.depth} must be 6n + 4, such as 40, 100, 190 or 250"
            )
        check_range("growth", self.growth, at_least=1)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        depths = 3 * ((self.depth - 4) // 6,)
        return self.logits(images, depths, self.growth, train)


class FourBlockDenseNet(DenseBlocks):
    """DenseNet-BC with the four blocks of those for ImageNet, for 32x32 images.

    As in kuangliu/pytorch-cifar, the first convolution is 3x3 and keeps the size.

    Attributes:
        depths: Number of layers in each block, at most 200.
        growth: Channels that each layer adds to its input.
    """

    depths: tuple[int, int, int, int] = (6, 12, 24, 16)
    growth: int = 32

    smallest_image: ClassVar[int] = 8

    def __post_init__(self) -> None:
        check_range("depths", self.depths, at_least=1, at_most=200)
        check_range("growth", self.growth, at_least=1)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        return self.logits(images, self.depths, self.growth, train)


densenet121 = functools.partial(FourBlockDenseNet, depths=(6, 12, 24, 16), growth=32)
