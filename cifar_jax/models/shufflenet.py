"""ShuffleNet: 1x1 convolutions in groups, between which channels are shuffled.

Zhang et al., "ShuffleNet: an extremely efficient convolutional neural network for
mobile devices", 2018.
"""

import functools
from typing import ClassVar, Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.models.normalized import Activated

# Channels of the first stage, by the number of groups (table 1 of the paper). Each
# later stage has twice as many.
WIDTHS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
STEM_WIDTH = 24


def shuffle_channels(
    x: Float[Array, "n h w c"], groups: int
) -> Float[Array, "n h w c"]:
    """Returns the channels in the order: first of each group, second of each, etc."""
    grouped = x.reshape(*x.shape[:-1], groups, -1)
    return jnp.swapaxes(grouped, -1, -2).reshape(x.shape)


class ShuffleNet(Activated):
    """ShuffleNet as commonly used for CIFAR: the image is halved only three times.

    As in kuangliu/pytorch-cifar, the first convolution is 1x1, and a ReLU follows the
    depthwise convolutions, unlike in the paper.

    Attributes:
        groups: groups of channels in the 1x1 convolutions, which determine the widths.
        depths: number of blocks in each stage, at most 200.
    """

    groups: Literal[1, 2, 3, 4, 8] = 2
    depths: tuple[int, int, int] = (4, 8, 4)

    smallest_image: ClassVar[int] = 8

    def __post_init__(self) -> None:
        check_range("depths", self.depths, at_least=1, at_most=200)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        x = self.conv(images, STEM_WIDTH, 1, "conv1", train=train)
        for stage, depth in enumerate(self.depths):
            for index in range(depth):
                x = self.block(
                    x,
                    WIDTHS[self.groups] << stage,
                    2 if index == 0 else 1,
                    # The few channels of the stem are not divided.
                    1 if stage == index == 0 else self.groups,
                    f"stage{stage + 1}_block{index + 1}",
                    train,
                )
        return self.classify(x)

    def block(
        self,
        x: Array,
        width: int,
        strides: int,
        first_groups: int,
        name: str,
        train: bool,
    ) -> Array:
        """Applies 1x1, depthwise 3x3, and 1x1 convolutions, and keeps the input.

        The input is added to their output. If the block halves the image, the input is
        averaged and concatenated instead, so the convolutions have fewer channels.

        Args:
            x: the input.
            width: output channels of the block.
            strides: of the depthwise convolution.
            first_groups: groups of the first convolution.
            name: of the block.
            train: whether this is a training step.
        """
        conv = functools.partial(self.conv, train=train)
        outputs = width if strides == 1 else width - x.shape[-1]
        inside = outputs // 4
        y = conv(x, inside, 1, f"{name}_conv1", groups=first_groups)
        y = shuffle_channels(y, first_groups)
        y = conv(y, inside, 3, f"{name}_conv2", strides=strides, groups=inside)
        y = conv(y, outputs, 1, f"{name}_conv3", groups=self.groups, activation=None)
        if strides == 1:
            return self.tap(name, nn.relu(x + y))
        x = nn.avg_pool(x, (3, 3), (strides, strides), ((1, 1), (1, 1)))
        return self.tap(name, nn.relu(jnp.concatenate([y, x], axis=-1)))
