"""Xception: Inception taken to its extreme, depthwise separable convolutions.

Chollet, "Xception: deep learning with depthwise separable convolutions", 2017.
"""

import functools
from typing import ClassVar

from flax import linen as nn
from flax.linen.initializers import glorot_uniform
from jaxtyping import Array, Float

from cifar_jax.models.block import KERAS_NORM
from cifar_jax.models.network import Network


class Xception(Network):
    """Xception, as in keras.applications.

    Layer names and initialization are Keras's; a separable convolution is two layers
    here, with _depthwise and _pointwise added to its name. Keras numbers the
    convolutions of the shortcuts: conv2d to conv2d_3.
    """

    num_classes: int = 1000

    smallest_image: ClassVar[int] = 71

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        block = functools.partial(self.block, train=train)
        conv = functools.partial(self.conv, train=train, padding="VALID")
        x = nn.relu(conv(images, 32, 3, 2, "block1_conv1"))
        x = nn.relu(conv(x, 64, 3, 1, "block1_conv2"))
        x = block(x, (128, 128), "block2", shortcut="", relu_first=False)
        x = block(x, (256, 256), "block3", shortcut="_1")
        x = block(x, (728, 728), "block4", shortcut="_2")
        for number in range(5, 13):
            x = block(x, (728, 728, 728), f"block{number}")
        x = block(x, (728, 1024), "block13", shortcut="_3")
        x = nn.relu(self.separable(x, 1536, "block14_sepconv1", train))
        x = nn.relu(self.separable(x, 2048, "block14_sepconv2", train))
        return self.predictions(x.mean(axis=(1, 2)), glorot_uniform())

    def block(
        self,
        x: Array,
        widths: tuple[int, ...],
        name: str,
        *,
        train: bool,
        shortcut: str | None = None,
        relu_first: bool = True,
    ) -> Array:
        """Adds the output of separable convolutions to their input.

        Args:
            x: the input.
            widths: output channels of each convolution.
            name: of the block.
            train: whether this is a training step.
            shortcut: the number of the convolution that halves the input, as in its
                name; None if the block keeps the size.
            relu_first: whether the first convolution is preceded by a ReLU.
        """
        residual = x
        if shortcut is not None:
            names = f"conv2d{shortcut}", f"batch_normalization{shortcut}"
            residual = self.conv(x, widths[-1], 1, 2, *names, train=train)
        for number, width in enumerate(widths, 1):
            if number > 1 or relu_first:
                x = nn.relu(x)
            x = self.separable(x, width, f"{name}_sepconv{number}", train)
        if shortcut is not None:
            x = self.max_pool(x, (3, 3), (2, 2), "SAME")
        return x + residual

    def conv(
        self,
        x: Array,
        width: int,
        size: int,
        strides: int,
        name: str,
        norm_name: str = "",
        *,
        train: bool,
        padding: str = "SAME",
    ) -> Array:
        """Applies a convolution without bias, and BatchNorm."""
        x = self.normalized_convolution(
            x,
            width,
            (size, size),
            (name, norm_name or f"{name}_bn"),
            train,
            norm=KERAS_NORM,
            strides=strides,
            padding=padding,
            use_bias=False,
            kernel_init=glorot_uniform(),
        )
        return self.tap(name, x)

    def separable(self, x: Array, width: int, name: str, train: bool) -> Array:
        """Applies a 3x3 convolution of each channel, one of all, and BatchNorm."""
        channels = x.shape[-1]
        depthwise = self.convolution(
            channels,
            (3, 3),
            f"{name}_depthwise",
            feature_group_count=channels,
            use_bias=False,
            kernel_init=glorot_uniform(),
        )
        x = self.tap(f"{name}_depthwise", depthwise(x))
        x = self.normalized_convolution(
            x,
            width,
            (1, 1),
            (f"{name}_pointwise", f"{name}_bn"),
            train,
            norm=KERAS_NORM,
            use_bias=False,
            kernel_init=glorot_uniform(),
        )
        return self.tap(f"{name}_pointwise", x)
