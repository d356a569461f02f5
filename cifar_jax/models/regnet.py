"""RegNet: residual networks whose widths were found by simplifying a search space.

Radosavovic et al., "Designing network design spaces", 2020. X stands for these blocks,
Y for the same with squeeze-and-excitation (Hu et al., 2018).
"""

import functools

from flax import linen as nn
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.models.resnet import Residual
from cifar_jax.models.squeeze_excitation import squeeze_and_excite

# Channels of the first convolution.
STEM = 64
STRIDES = (1, 1, 2, 2)


class RegNet(Residual):
    """RegNet for CIFAR as in kuangliu/pytorch-cifar.

    The first convolution and the first two stages keep the size of the image. It is
    initialized as described in `Normalized`.

    Attributes:
        widths: Channels of the blocks in each stage, multiples of the group width.
        depths: Number of blocks in each stage, at most 200.
        group_width: Channels of each group in the 3x3 convolutions.
        squeeze: Whether channels are weighted by what the image contains, from a layer
            with a quarter of the channels of the block's input.
    """

    widths: tuple[int, int, int, int] = (24, 56, 152, 368)
    depths: tuple[int, int, int, int] = (1, 1, 4, 7)
    group_width: int = 8
    squeeze: bool = False

    def __post_init__(self) -> None:
        check_range("group_width", self.group_width, at_least=1)
        # Of fewer channels there would be no quarter.
        check_range("widths", self.widths, at_least=4)
        check_range("depths", self.depths, at_least=1, at_most=200)
        if any(width % self.group_width for width in self.widths):
            raise ValueError(
                f"widths={self.widths} must be multiples of "
                f"group_width={self.group_width}"
            )
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        x = nn.relu(self.conv(images, STEM, 3, 1, "conv1", train))
        x = self.tap("conv1_conv", x)
        stages = zip(self.widths, self.depths, STRIDES, strict=True)
        for stage, (width, depth, strides) in enumerate(stages, 2):
            for index in range(1, depth + 1):
                name = f"conv{stage}_block{index}"
                x = self.block(x, width, strides if index == 1 else 1, name, train)
        return self.classify(x)

    def block(
        self, x: Array, width: int, strides: int, name: str, train: bool
    ) -> Array:
        """Applies 1x1, 3x3 and 1x1 convolutions of the same width."""
        conv = functools.partial(self.conv, train=train)
        quarter = x.shape[-1] // 4
        shortcut = x
        if strides > 1 or x.shape[-1] != width:
            shortcut = conv(x, width, 1, strides, f"{name}_0")
            shortcut = self.tap(f"{name}_0_conv", shortcut)
        x = self.tap(f"{name}_1_conv", nn.relu(conv(x, width, 1, 1, f"{name}_1")))
        groups = width // self.group_width
        x = nn.relu(conv(x, width, 3, strides, f"{name}_2", groups=groups))
        x = self.tap(f"{name}_2_conv", x)
        if self.squeeze:
            x = squeeze_and_excite(self, x, quarter, name)
        x = nn.relu(conv(x, width, 1, 1, f"{name}_3") + shortcut)
        return self.tap(f"{name}_3_conv", x)


regnet_x_200mf = functools.partial(
    RegNet, widths=(24, 56, 152, 368), depths=(1, 1, 4, 7), group_width=8
)
regnet_y_400mf = functools.partial(
    RegNet,
    widths=(32, 64, 160, 384),
    depths=(1, 2, 7, 12),
    group_width=16,
    squeeze=True,
)
