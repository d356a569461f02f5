"""Dual path networks: each block adds to some channels and appends others.

Chen et al., "Dual path networks", 2017.
"""

import functools

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.models.resnet import Residual

# Channels of the first convolution; groups of each 3x3 convolution.
STEM = 64
GROUPS = 32
# For each stage: the channels of the 3x3 convolutions, the channels that blocks add to,
# and how many each block appends.
WIDTHS = (96, 192, 384, 768)
RESIDUAL = (256, 512, 1024, 2048)
GROWTH = (16, 32, 24, 128)


class DPN(Residual):
    """Dual path network for CIFAR as in kuangliu/pytorch-cifar.

    The first convolution and the first stage keep the size of the image. It is
    initialized as described in `Normalized`.

    Attributes:
        depths: Number of blocks in each stage, at most 200.
    """

    depths: tuple[int, int, int, int] = (3, 4, 20, 3)

    def __post_init__(self) -> None:
        check_range("depths", self.depths, at_least=1, at_most=200)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        x = nn.relu(self.conv(images, STEM, 3, 1, "conv1", train))
        x = self.tap("conv1_conv", x)
        for stage, depth in enumerate(self.depths):
            for index in range(1, depth + 1):
                x = self.block(x, stage, index, train)
        return self.classify(x)

    def block(self, x: Array, stage: int, index: int, train: bool) -> Array:
        """Applies 1x1, 3x3 and 1x1 convolutions; the index counts from 1."""
        conv = functools.partial(self.conv, train=train)
        name = f"conv{stage + 2}_block{index}"
        width, residual, growth = WIDTHS[stage], RESIDUAL[stage], GROWTH[stage]
        strides = 2 if index == 1 and stage > 0 else 1
        y = self.tap(f"{name}_1_conv", nn.relu(conv(x, width, 1, 1, f"{name}_1")))
        y = nn.relu(conv(y, width, 3, strides, f"{name}_2", groups=GROUPS))
        y = self.tap(f"{name}_2_conv", y)
        y = conv(y, residual + growth, 1, 1, f"{name}_3")
        if index == 1:
            x = conv(x, residual + growth, 1, strides, f"{name}_0")
            x = self.tap(f"{name}_0_conv", x)
        total = x[..., :residual] + y[..., :residual]
        x = jnp.concatenate([total, x[..., residual:], y[..., residual:]], axis=-1)
        return self.tap(f"{name}_3_conv", nn.relu(x))


dpn26 = functools.partial(DPN, depths=(2, 2, 2, 2))
dpn92 = functools.partial(DPN, depths=(3, 4, 20, 3))
