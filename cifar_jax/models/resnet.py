"""ResNet: stages of residual blocks, which add their outputs to their inputs.

He et al., "Deep residual learning for image recognition", 2016.
"""

import functools
from collections.abc import Callable
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from flax.linen.initializers import glorot_uniform
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.models.network import Network
from cifar_jax.models.normalized import Normalized


def stages(
    x: Float[Array, "n h w c"],
    width: int,
    depths: tuple[int, ...],
    block: Callable[[Array, int, int, str], Array],
) -> Float[Array, "n out_h out_w d"]:
    """Applies the stages, which all ResNet variants share.

    Args:
        x: Input of the first block.
        width: Channels of the 3x3 convolutions in the first stage; each later stage has
            twice as many.
        depths: Number of blocks in each stage.
        block: Computes a block from its input, width, strides and name.
    """
    # The stem counts as the first stage.
    for stage, depth in enumerate(depths, 2):
        for index in range(1, depth + 1):
            strides = 2 if index == 1 and stage > 2 else 1
            x = block(x, width << (stage - 2), strides, f"conv{stage}_block{index}")
    return x


class ResNet(Network):
    """The options that all ResNet variants share.

    Attributes:
        width: Channels of the 3x3 convolutions in the first stage; each later stage has
            twice as many.
        depths: Number of blocks in each stage, at most 200.
    """

    width: int = 64
    depths: tuple[int, ...] = (2, 2, 2, 2)

    def __post_init__(self) -> None:
        check_range("width", self.width, at_least=1)
        check_range("depths", self.depths, at_least=1, at_most=200)
        super().__post_init__()


class BottleneckResNet(ResNet, kw_only=True):
    """ResNet for ImageNet, as in keras.applications.

    Layer names and initialization are Keras's: Glorot uniform kernels, zero biases.
    Convolutions have biases, although BatchNorm cancels them; a stage halves the image
    in its first 1x1 convolution, as in the paper.
    """

    num_classes: int = 1000

    smallest_image: ClassVar[int] = 32

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        x = nn.relu(self.conv(images, self.width, 7, 2, "conv1", train))
        x = self.tap("conv1_conv", x)
        x = self.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        block = functools.partial(self.block, train=train)
        x = stages(x, self.width, self.depths, block)
        return self.predictions(x.mean(axis=(1, 2)), glorot_uniform())

    def block(
        self, x: Array, width: int, strides: int, name: str, train: bool
    ) -> Array:
        """Applies 1x1, 3x3 and 1x1 convolutions, the last one four times as wide."""
        conv = functools.partial(self.conv, train=train)
        shortcut = x
        if strides > 1 or x.shape[-1] != 4 * width:
            shortcut = conv(x, 4 * width, 1, strides, f"{name}_0")
            shortcut = self.tap(f"{name}_0_conv", shortcut)
        x = nn.relu(conv(x, width, 1, strides, f"{name}_1"))
        x = self.tap(f"{name}_1_conv", x)
        x = nn.relu(conv(x, width, 3, 1, f"{name}_2"))
        x = self.tap(f"{name}_2_conv", x)
        x = nn.relu(conv(x, 4 * width, 1, 1, f"{name}_3") + shortcut)
        return self.tap(f"{name}_3_conv", x)

    def conv(
        self, x: Array, width: int, size: int, strides: int, name: str, train: bool
    ) -> Array:
        """Applies a convolution and its BatchNorm."""
        return self.normalized_convolution(
            x,
            width,
            (size, size),
            (f"{name}_conv", f"{name}_bn"),
            train,
            norm={"epsilon": 1.001e-5, "momentum": 0.99},
            strides=strides,
            padding=size // 2,
            kernel_init=glorot_uniform(),
        )


class Residual(Normalized):
    """A network of residual blocks, which are activated after their sums."""

    def conv(
        self,
        x: Array,
        width: int,
        size: int,
        strides: int,
        name: str,
        train: bool,
        groups: int = 1,
    ) -> Array:
        """Applies a convolution and its BatchNorm, named as in keras.applications."""
        names = (f"{name}_conv", f"{name}_bn")
        return self.normalized(x, width, size, names, train, strides, groups)


class CifarResNet(ResNet, Residual):
    """ResNet as commonly used for CIFAR: basic blocks and a size-preserving stem.

    It is initialized as described in `Normalized`.
    """

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        x = nn.relu(self.conv(images, self.width, 3, 1, "conv1", train))
        x = self.tap("conv1_conv", x)
        block = functools.partial(self.block, train=train)
        return self.classify(stages(x, self.width, self.depths, block))

    def block(
        self, x: Array, width: int, strides: int, name: str, train: bool
    ) -> Array:
        """Applies two 3x3 convolutions."""
        shortcut = self.shortcut(x, width, strides, name, train)
        x = nn.relu(self.conv(x, width, 3, strides, f"{name}_1", train))
        x = self.tap(f"{name}_1_conv", x)
        x = nn.relu(self.conv(x, width, 3, 1, f"{name}_2", train) + shortcut)
        return self.tap(f"{name}_2_conv", x)

    def shortcut(
        self, x: Array, width: int, strides: int, name: str, train: bool
    ) -> Array:
        """Returns the input of a block, in the shape of its output."""
        if strides == 1 and x.shape[-1] == width:
            return x
        x = self.conv(x, width, 1, strides, f"{name}_0", train)
        return self.tap(f"{name}_0_conv", x)


class CifarBottleneckResNet(CifarResNet):
    """ResNet for CIFAR with the blocks of the deep ResNets for ImageNet.

    The 3x3 convolution is the one that halves the image, as in kuangliu/pytorch-cifar.
    """

    def block(
        self, x: Array, width: int, strides: int, name: str, train: bool
    ) -> Array:
        """Applies 1x1, 3x3 and 1x1 convolutions, the last one four times as wide."""
        return self.bottleneck(x, width, 4 * width, strides, name, train)

    def bottleneck(
        self,
        x: Array,
        width: int,
        outputs: int,
        strides: int,
        name: str,
        train: bool,
        groups: int = 1,
    ) -> Array:
        """Applies 1x1, 3x3 and 1x1 convolutions; the 3x3 one has the groups."""
        conv = functools.partial(self.conv, train=train)
        shortcut = self.shortcut(x, outputs, strides, name, train)
        x = nn.relu(conv(x, width, 1, 1, f"{name}_1"))
        x = self.tap(f"{name}_1_conv", x)
        x = nn.relu(conv(x, width, 3, strides, f"{name}_2", groups=groups))
        x = self.tap(f"{name}_2_conv", x)
        x = nn.relu(conv(x, outputs, 1, 1, f"{name}_3") + shortcut)
        return self.tap(f"{name}_3_conv", x)


class PaddedResNet(CifarResNet):
    """The paper's ResNet for CIFAR, whose shortcuts have no parameters (option A).

    Where the shape changes, a shortcut takes every other pixel in both directions and
    adds channels of zeros. There are 6n + 2 layers, in three stages of n blocks.
    """

    def shortcut(
        self, x: Array, width: int, strides: int, name: str, train: bool
    ) -> Array:
        """Returns the input of a block, in the shape of its output."""
        channels = (0, width - x.shape[-1])
        x = x[:, ::strides, ::strides]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), channels))


resnet50 = functools.partial(BottleneckResNet, depths=(3, 4, 6, 3))
resnet18 = functools.partial(CifarResNet, depths=(2, 2, 2, 2))
resnet34 = functools.partial(CifarResNet, depths=(3, 4, 6, 3))
cifar_resnet50 = functools.partial(CifarBottleneckResNet, depths=(3, 4, 6, 3))
cifar_resnet101 = functools.partial(CifarBottleneckResNet, depths=(3, 4, 23, 3))

_padded = functools.partial(PaddedResNet, width=16)
resnet20 = functools.partial(_padded, depths=(3, 3, 3))
resnet32 = functools.partial(_padded, depths=(5, 5, 5))
resnet44 = functools.partial(_padded, depths=(7, 7, 7))
resnet56 = functools.partial(_padded, depths=(9, 9, 9))
resnet110 = functools.partial(_padded, depths=(18, 18, 18))
