"""Inception: modules with branches that view an image through windows of several sizes.

Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016, and
"Inception-v4, Inception-ResNet and the impact of residual connections on learning",
2017.
"""

import itertools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from flax.linen.initializers import glorot_uniform
from jaxtyping import Array, Float

from cifar_jax.models.block import KERAS_NORM
from cifar_jax.models.network import Network


class Conv(NamedTuple):
    """A convolution: its output channels, its window, and how the window moves."""

    channels: int
    height: int
    width: int
    strides: int = 1
    padding: str = "SAME"


# The strides and padding that halve an image.
_HALVE = (2, "VALID")

# Applies convolutions, given as the arguments of `Conv`, one after the other.
Branch = Callable[..., Array]


class Inception(Network):
    """The common parts of both networks, as in keras.applications.

    Layer names and initialization are Keras's. Keras numbers unnamed convolutions in
    the order in which it creates them, conv2d, conv2d_1 and so on, and their BatchNorms
    in the same way.
    """

    num_classes: int = 1000

    smallest_image: ClassVar[int] = 75

    def branches(self, train: bool) -> Branch:
        """Returns the function that applies the numbered convolutions of a branch."""
        numbers = itertools.count()

        def branch(x: Array, *convs: tuple[Any, ...]) -> Array:
            for conv in convs:
                number = next(numbers)
                suffix = f"_{number}" if number else ""
                names = f"conv2d{suffix}", f"batch_normalization{suffix}"
                x = self.conv(x, Conv(*conv), names, train)
            return x

        return branch

    def conv(self, x: Array, conv: Conv, names: tuple[str, str], train: bool) -> Array:
        """Applies a convolution without bias, BatchNorm without a scale, and ReLU."""
        x = self.normalized_convolution(
            x,
            conv.channels,
            (conv.height, conv.width),
            names,
            train,
            norm={**KERAS_NORM, "use_scale": False},
            strides=conv.strides,
            padding=conv.padding,
            use_bias=False,
            kernel_init=glorot_uniform(),
        )
        return self.tap(names[0], nn.relu(x))

    def stem(self, images: Float[Array, "n h w 3"], branch: Branch) -> Array:
        """Applies the layers before the first module."""
        x = branch(images, (32, 3, 3, *_HALVE), (32, 3, 3, 1, "VALID"), (64, 3, 3))
        x = self.halve(x)
        x = branch(x, (80, 1, 1, 1, "VALID"), (192, 3, 3, 1, "VALID"))
        return self.halve(x)

    def module(self, x: Array, branch: Branch, plain: int, averaged: int) -> Array:
        """Applies the module that both networks begin with.

        Args:
            x: the input.
            branch: applies convolutions.
            plain: channels of the branch that is a single convolution.
            averaged: channels of the branch that averages first.
        """
        return _concatenate(
            branch(x, (plain, 1, 1)),
            branch(x, (48, 1, 1), (64, 5, 5)),
            branch(x, (64, 1, 1), (96, 3, 3), (96, 3, 3)),
            branch(self.average(x), (averaged, 1, 1)),
        )

    def halve(self, x: Array) -> Array:
        """Returns the maxima of 3x3 windows with strides of 2."""
        return self.max_pool(x, (3, 3), (2, 2))

    def average(self, x: Array) -> Array:
        """Returns the means of the pixels around each pixel."""
        return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


class InceptionV3(Inception):
    """InceptionV3, as in keras.applications."""

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        branch = self.branches(train)
        x = self.stem(images, branch)
        for width in (32, 64, 64):
            x = self.module(x, branch, 64, width)
        x = _concatenate(
            branch(x, (384, 3, 3, *_HALVE)),
            branch(x, (64, 1, 1), (96, 3, 3), (96, 3, 3, *_HALVE)),
            self.halve(x),
        )
        for width in (128, 160, 160, 192):
            row, column = (width, 1, 7), (width, 7, 1)
            x = _concatenate(
                branch(x, (192, 1, 1)),
                branch(x, (width, 1, 1), row, (192, 7, 1)),
                branch(x, (width, 1, 1), column, row, column, (192, 1, 7)),
                branch(self.average(x), (192, 1, 1)),
            )
        x = _concatenate(
            branch(x, (192, 1, 1), (320, 3, 3, *_HALVE)),
            branch(x, (192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3, *_HALVE)),
            self.halve(x),
        )
        for _ in range(2):
            x = _concatenate(
                branch(x, (320, 1, 1)),
                _split(branch, branch(x, (384, 1, 1))),
                _split(branch, branch(x, (448, 1, 1), (384, 3, 3))),
                branch(self.average(x), (192, 1, 1)),
            )
        return self.predictions(x.mean(axis=(1, 2)), glorot_uniform())


class InceptionResNetV2(Inception):
    """InceptionResNetV2, as in keras.applications: residual Inception modules."""

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        branch = self.branches(train)
        x = self.stem(images, branch)
        x = self.module(x, branch, 96, 64)
        for number in range(1, 11):
            mixed = _concatenate(
                branch(x, (32, 1, 1)),
                branch(x, (32, 1, 1), (32, 3, 3)),
                branch(x, (32, 1, 1), (48, 3, 3), (64, 3, 3)),
            )
            x = self.residual(x, mixed, 0.17, f"block35_{number}")
        x = _concatenate(
            branch(x, (384, 3, 3, *_HALVE)),
            branch(x, (256, 1, 1), (256, 3, 3), (384, 3, 3, *_HALVE)),
            self.halve(x),
        )
        for number in range(1, 21):
            mixed = _concatenate(
                branch(x, (192, 1, 1)),
                branch(x, (128, 1, 1), (160, 1, 7), (192, 7, 1)),
            )
            x = self.residual(x, mixed, 0.1, f"block17_{number}")
        x = _concatenate(
            branch(x, (256, 1, 1), (384, 3, 3, *_HALVE)),
            branch(x, (256, 1, 1), (288, 3, 3, *_HALVE)),
            branch(x, (256, 1, 1), (288, 3, 3), (320, 3, 3, *_HALVE)),
            self.halve(x),
        )
        for number in range(1, 11):
            mixed = _concatenate(
                branch(x, (192, 1, 1)),
                branch(x, (192, 1, 1), (224, 1, 3), (256, 3, 1)),
            )
            is_last = number == 10
            scale = 1.0 if is_last else 0.2
            x = self.residual(x, mixed, scale, f"block8_{number}", relu=not is_last)
        x = self.conv(x, Conv(1536, 1, 1), ("conv_7b", "conv_7b_bn"), train)
        return self.predictions(x.mean(axis=(1, 2)), glorot_uniform())

    def residual(
        self, x: Array, mixed: Array, scale: float, name: str, relu: bool = True
    ) -> Array:
        """Adds a module's output to its input, with matching channels and scaled down.

        Without scaling, residuals with so many channels make training unstable.
        """
        conv = self.convolution(
            x.shape[-1], (1, 1), f"{name}_conv", kernel_init=glorot_uniform()
        )
        x += scale * conv(mixed)
        return self.tap(f"{name}_conv", nn.relu(x) if relu else x)


def _concatenate(*branches: Array) -> Array:
    return jnp.concatenate(branches, axis=-1)


def _split(branch: Branch, x: Array) -> Array:
    """Applies a row and a column of a 3x3 window side by side."""
    return _concatenate(branch(x, (384, 1, 3)), branch(x, (384, 3, 1)))
