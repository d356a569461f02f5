"""MobileNetV2: depthwise convolutions of many channels, between narrow layers.

Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", 2018.
"""

import functools
from typing import ClassVar

from flax import linen as nn
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.models.normalized import Activated

# For each stage: how many times as many channels its blocks have inside, its width, the
# number of blocks, and the stride of the first one.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def scaled(channels: int, factor: float) -> int:
    """Returns a scaled number of channels, as a multiple of 8.

    It is the nearest one, or the next if that would be less than 90% of the scaled
    number.
    """
    exact = channels * factor
    nearest = max(8, int(exact + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * exact else nearest + 8


class MobileNetV2(Activated):
    """MobileNetV2 as commonly used for CIFAR: the image is halved only three times.

    As in kuangliu/pytorch-cifar, it differs from the paper in three more ways: ReLU is
    not capped at 6, the first block has a 1x1 convolution in front, and blocks that
    change the width but not the size have a 1x1 convolution as a shortcut. At full
    width, these convolutions have 60,240 of the 2,296,922 parameters.

    Attributes:
        width: factor of the number of channels, which is rounded to multiples of 8. The
            last convolution is widened by it but not narrowed.
    """

    width: float = 1.0

    smallest_image: ClassVar[int] = 8

    def __post_init__(self) -> None:
        check_range("width", self.width, above=0, at_most=100)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        x = self.conv(images, scaled(32, self.width), 3, "conv1", train=train)
        for stage, (expansion, channels, depth, first_strides) in enumerate(STAGES, 1):
            for index in range(1, depth + 1):
                x = self.block(
                    x,
                    scaled(channels, self.width),
                    expansion,
                    first_strides if index == 1 else 1,
                    f"stage{stage}_block{index}",
                    train,
                )
        last = scaled(1280, max(1.0, self.width))
        return self.classify(self.conv(x, last, 1, "conv2", train=train))

    def block(
        self, x: Array, width: int, expansion: int, strides: int, name: str, train: bool
    ) -> Array:
        """Applies a block: 1x1, depthwise 3x3, and 1x1 without an activation."""
        conv = functools.partial(self.conv, train=train)
        inside = expansion * x.shape[-1]
        y = conv(x, inside, 1, f"{name}_expand")
        y = conv(y, inside, 3, f"{name}_depthwise", strides=strides, groups=inside)
        y = conv(y, width, 1, f"{name}_project", activation=None)
        if strides > 1:
            return y
        if x.shape[-1] != width:
            x = conv(x, width, 1, f"{name}_shortcut", activation=None)
        return self.tap(name, x + y)
