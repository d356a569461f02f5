"""ShuffleNetV2: blocks that change half of the channels and shuffle them.

Ma et al., "ShuffleNet V2: practical guidelines for efficient CNN architecture design",
2018.
"""

import functools
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.models.normalized import Activated
from cifar_jax.models.shufflenet import STEM_WIDTH, shuffle_channels

# Channels of the three stages and of the last convolution (table 5 of the paper).
# kuangliu/pytorch-cifar has 224 for 244.
WIDTHS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}


class ShuffleNetV2(Activated):
    """ShuffleNetV2 as commonly used for CIFAR: the image is halved only three times.

    Attributes:
        width: roughly a factor of the number of channels: 0.5, 1, 1.5, or 2.
        depths: number of blocks in each stage, at most 200.
    """

    width: float = 1.0
    depths: tuple[int, int, int] = (4, 8, 4)

    smallest_image: ClassVar[int] = 8

    def __post_init__(self) -> None:
        if self.width not in WIDTHS:
            choices = ", ".join(map(str, WIDTHS))
            raise ValueError(f"width={self.width} must be one of {choices}")
        check_range("depths", self.depths, at_least=1, at_most=200)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        *widths, last = WIDTHS[self.width]
        x = self.conv(images, STEM_WIDTH, 3, "conv1", train=train)
        for stage, (width, depth) in enumerate(
            zip(widths, self.depths, strict=True), 1
        ):
            x = self.halve(x, width, f"stage{stage}_block1", train)
            for index in range(2, depth + 1):
                x = self.block(x, f"stage{stage}_block{index}", train)
        return self.classify(self.conv(x, last, 1, "conv2", train=train))

    def block(self, x: Array, name: str, train: bool) -> Array:
        """Applies 1x1, depthwise 3x3, and 1x1 convolutions to half of the channels."""
        kept, y = jnp.split(x, 2, axis=-1)
        y = self.branch(y, y.shape[-1], 1, name, train)
        return self.join(kept, y, name)

    def halve(self, x: Array, width: int, name: str, train: bool) -> Array:
        """Halves the image by two branches that see all channels."""
        conv = functools.partial(self.conv, train=train)
        channels = x.shape[-1]
        left = conv(
            x,
            channels,
            3,
            f"{name}_left_conv1",
            strides=2,
            groups=channels,
            activation=None,
        )
        left = conv(left, width // 2, 1, f"{name}_left_conv2")
        right = self.branch(x, width // 2, 2, name, train)
        return self.join(left, right, name)

    def branch(
        self, x: Array, width: int, strides: int, name: str, train: bool
    ) -> Array:
        """Applies 1x1, depthwise 3x3, and 1x1 convolutions of the same width."""
        conv = functools.partial(self.conv, train=train)
        x = conv(x, width, 1, f"{name}_conv1")
        x = conv(
            x,
            width,
            3,
            f"{name}_conv2",
            strides=strides,
            groups=width,
            activation=None,
        )
        return conv(x, width, 1, f"{name}_conv3")

    def join(self, left: Array, right: Array, name: str) -> Array:
        """Concatenates two halves of the channels and shuffles them."""
        joined = jnp.concatenate([left, right], axis=-1)
        return self.tap(name, shuffle_channels(joined, 2))
