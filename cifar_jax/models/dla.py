"""DLA: residual blocks whose outputs are aggregated in trees.

Yu et al., "Deep layer aggregation", 2018.
"""

import functools
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.models.normalized import Activated

# For each tree: its width, as a multiple of the first convolution's, its levels, and
# the stride of its first blocks.
TREES = ((4, 1, 1), (8, 2, 2), (16, 2, 2), (32, 1, 2))


class DLA(Activated):
    """DLA-34 as commonly used for CIFAR: the image is halved only three times.

    As in kuangliu/pytorch-cifar, a tree of several levels also aggregates the output of
    a block that is applied to the tree's input.

    Attributes:
        width: channels of the first convolution; the others scale with it.
    """

    width: int = 16

    smallest_image: ClassVar[int] = 8

    def __post_init__(self) -> None:
        check_range("width", self.width, at_least=1)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        x = images
        for number, factor in enumerate((1, 1, 2), 1):
            x = self.conv(x, factor * self.width, 3, f"conv{number}", train=train)
        for number, (factor, levels, strides) in enumerate(TREES, 1):
            name = f"tree{number}"
            x = self.tree(x, factor * self.width, levels, strides, name, train)
        return self.classify(x)

    def tree(
        self, x: Array, width: int, levels: int, strides: int, name: str, train: bool
    ) -> Array:
        """Aggregates trees of all lower levels and two blocks, applied in turn."""
        outputs = []
        if levels > 1:
            outputs.append(self.block(x, width, strides, f"{name}_input", train))
        for level in range(levels - 1, 0, -1):
            x = self.tree(x, width, level, strides, f"{name}_level{level}", train)
            outputs.append(x)
            strides = 1
        for side in ("left", "right"):
            x = self.block(x, width, strides, f"{name}_{side}", train)
            outputs.append(x)
            strides = 1
        return self.aggregate(outputs, width, name, train)

    def aggregate(
        self, outputs: list[Array], width: int, name: str, train: bool
    ) -> Array:
        """Applies the root of a tree: a 1x1 convolution of all outputs."""
        joined = jnp.concatenate(outputs, axis=-1)
        return self.conv(joined, width, 1, f"{name}_root", train=train)

    def block(
        self, x: Array, width: int, strides: int, name: str, train: bool
    ) -> Array:
        """Applies two 3x3 convolutions and adds them to their input."""
        conv = functools.partial(self.conv, train=train)
        y = conv(x, width, 3, f"{name}_conv1", strides=strides)
        y = conv(y, width, 3, f"{name}_conv2", activation=None)
        if strides > 1 or x.shape[-1] != width:
            name_of = f"{name}_shortcut"
            x = conv(x, width, 1, name_of, strides=strides, activation=None)
        return self.tap(name, nn.relu(x + y))


class SimpleDLA(DLA):
    """DLA with binary trees, each aggregating only the outputs of its two halves."""

    def tree(
        self, x: Array, width: int, levels: int, strides: int, name: str, train: bool
    ) -> Array:
        """Aggregates two trees of the level below, or two blocks, applied in turn."""
        outputs = []
        for side in ("left", "right"):
            half = f"{name}_{side}"
            if levels > 1:
                x = self.tree(x, width, levels - 1, strides, half, train)
            else:
                x = self.block(x, width, strides, half, train)
            outputs.append(x)
            strides = 1
        return self.aggregate(outputs, width, name, train)
