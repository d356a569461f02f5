"""PNASNet: cells of depthwise convolutions and pooling, found by a search.

Liu et al., "Progressive neural architecture search", 2018.
"""

import functools
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.models.normalized import Activated


class PNASNetA(Activated):
    """The smaller of two networks of kuangliu/pytorch-cifar after the paper.

    Three stages of cells, each the sum of one convolution and pooling. Unlike in the
    paper, the convolutions are only depthwise, and a cell sees only the one before it.

    Attributes:
        width: channels of the first stage; each later stage has twice as many.
        depth: number of cells in each stage, at most 200; all stages but the first have
            one more, which halves the image.
    """

    width: int = 44
    depth: int = 6

    smallest_image: ClassVar[int] = 4

    def __post_init__(self) -> None:
        check_range("width", self.width, at_least=1)
        check_range("depth", self.depth, at_least=1, at_most=200)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        x = self.conv(images, self.width, 3, "conv1", train=train)
        for stage in range(3):
            width = self.width << stage
            if stage > 0:
                x = self.cell(x, width, 2, f"stage{stage + 1}_reduce", train)
            for index in range(1, self.depth + 1):
                x = self.cell(x, width, 1, f"stage{stage + 1}_cell{index}", train)
        return self.classify(x)

    def cell(self, x: Array, width: int, strides: int, name: str, train: bool) -> Array:
        """Adds a 7x7 convolution and max pooling."""
        y = self.depthwise(x, width, 7, strides, name, train)
        return self.tap(name, nn.relu(y + self.pool(x, width, strides, name, train)))

    def depthwise(
        self, x: Array, width: int, size: int, strides: int, name: str, train: bool
    ) -> Array:
        """Applies a convolution of each channel, to one or more outputs."""
        return self.conv(
            x,
            width,
            size,
            f"{name}_{size}x{size}",
            train=train,
            strides=strides,
            groups=x.shape[-1],
            activation=None,
        )

    def pool(self, x: Array, width: int, strides: int, name: str, train: bool) -> Array:
        """Applies max pooling, and a 1x1 convolution if it halves the image."""
        x = self.max_pool(x, (3, 3), (strides, strides), ((1, 1), (1, 1)))
        if strides == 1:
            return x
        return self.conv(x, width, 1, f"{name}_pool", train=train, activation=None)


class PNASNetB(PNASNetA):
    """The larger of the two networks, whose cells are wider inside.

    Each is a 1x1 convolution of two sums: of 7x7 and 3x3 convolutions, and of a 5x5
    convolution and pooling.
    """

    width: int = 32

    def cell(self, x: Array, width: int, strides: int, name: str, train: bool) -> Array:
        """Joins the two sums."""
        apply = functools.partial(
            self.depthwise, x, width, strides=strides, name=name, train=train
        )
        left = nn.relu(apply(7) + apply(3))
        right = nn.relu(self.pool(x, width, strides, name, train) + apply(5))
        joined = jnp.concatenate([left, right], axis=-1)
        return self.conv(joined, width, 1, f"{name}_join", train=train)
