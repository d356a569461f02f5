"""GoogLeNet: blocks of parallel convolutions of different sizes.

Szegedy et al., "Going deeper with convolutions", 2015.
"""

import functools
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.models.normalized import Activated


class Widths(NamedTuple):
    """Channels of the convolutions in a block.

    Attributes:
        one: of the 1x1 convolution.
        before_three: of the 1x1 convolution before the 3x3 one.
        three: of the 3x3 convolution.
        before_five: of the 1x1 convolution before the two that replace the 5x5 one.
        five: of each of these two.
        pool: of the 1x1 convolution after the pooling.
    """

    one: int
    before_three: int
    three: int
    before_five: int
    five: int
    pool: int


# The blocks of each stage, by the paper's names.
STAGES = (
    {
        "3a": Widths(64, 96, 128, 16, 32, 32),
        "3b": Widths(128, 128, 192, 32, 96, 64),
    },
    {
        "4a": Widths(192, 96, 208, 16, 48, 64),
        "4b": Widths(160, 112, 224, 24, 64, 64),
        "4c": Widths(128, 128, 256, 24, 64, 64),
        "4d": Widths(112, 144, 288, 32, 64, 64),
        "4e": Widths(256, 160, 320, 32, 128, 128),
    },
    {
        "5a": Widths(256, 160, 320, 32, 128, 128),
        "5b": Widths(384, 192, 384, 48, 128, 128),
    },
)


class GoogLeNet(Activated):
    """GoogLeNet as commonly used for CIFAR: BatchNorm, and a stem that keeps the size.

    As in kuangliu/pytorch-cifar, two 3x3 convolutions replace each 5x5 one, and there
    are neither dropout nor auxiliary classifiers. It has 6,158,346 parameters;
    pytorch-cifar counts 6,166,250, with the convolutions' biases, which BatchNorm
    cancels.

    Attributes:
        width: channels of the first block's 1x1 convolution; the others scale with it.
    """

    width: int = 64

    smallest_image: ClassVar[int] = 4

    def __post_init__(self) -> None:
        # The narrowest convolution has a quarter of it.
        check_range("width", self.width, at_least=4)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        x = self.conv(images, 3 * self.width, 3, "conv1", train=train)
        for number, blocks in enumerate(STAGES):
            if number > 0:
                x = self.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
            for name, full in blocks.items():
                widths = Widths(*(width * self.width // 64 for width in full))
                x = self.block(x, widths, f"inception_{name}", train)
        return self.classify(x)

    def block(self, x: Array, widths: Widths, name: str, train: bool) -> Array:
        """Concatenates the outputs of four branches."""
        conv = functools.partial(self.conv, train=train)
        one = conv(x, widths.one, 1, f"{name}_1x1")
        three = conv(x, widths.before_three, 1, f"{name}_3x3_reduce")
        three = conv(three, widths.three, 3, f"{name}_3x3")
        five = conv(x, widths.before_five, 1, f"{name}_5x5_reduce")
        five = conv(five, widths.five, 3, f"{name}_5x5_1")
        five = conv(five, widths.five, 3, f"{name}_5x5_2")
        pool = self.max_pool(x, (3, 3), (1, 1), ((1, 1), (1, 1)))
        pool = conv(pool, widths.pool, 1, f"{name}_pool")
        return self.tap(name, jnp.concatenate([one, three, five, pool], axis=-1))
