"""MobileNet: convolutions factored into depthwise and pointwise ones.

Howard et al., "MobileNets: efficient convolutional neural networks for mobile vision
applications", 2017.
"""

import functools
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from flax.linen.initializers import glorot_uniform
from flax.typing import PaddingLike
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.models.block import KERAS_NORM
from cifar_jax.models.network import Network

# For each pair of depthwise and pointwise convolutions: the width, as a multiple of the
# first convolution's, and the stride.
PAIRS = (
    (2, 1),
    (4, 2),
    (4, 1),
    (8, 2),
    (8, 1),
    (16, 2),
    *5 * ((16, 1),),
    (32, 2),
    (32, 1),
)


class MobileNet(Network, kw_only=True):
    """MobileNet, by default at full width, as in keras.applications.

    Layer names and initialization are Keras's: Glorot uniform kernels, zero biases.
    Keras's dropout of 0.001 before the last layer is omitted.

    Attributes:
        width: channels of the first convolution; the others scale with it.
    """

    width: int = 32
    num_classes: int = 1000

    smallest_image: ClassVar[int] = 32
    classifier: ClassVar[tuple[str, ...]] = ("conv_preds",)

    def __post_init__(self) -> None:
        check_range("width", self.width, at_least=1)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        conv = functools.partial(self.conv, train=train)
        x = conv(images, self.width, 3, 2, "conv1")
        for index, (factor, strides) in enumerate(PAIRS, 1):
            channels = x.shape[-1]
            # For odd sizes this differs from SAME, which pads both sides.
            padding = "SAME" if strides == 1 else ((0, 1), (0, 1))
            x = conv(
                x, channels, 3, strides, f"conv_dw_{index}", padding, groups=channels
            )
            x = conv(x, factor * self.width, 1, 1, f"conv_pw_{index}")
        x = x.mean(axis=(1, 2), keepdims=True)
        head = self.convolution(
            self.num_classes, (1, 1), "conv_preds", kernel_init=glorot_uniform()
        )
        logits = head(x)[:, 0, 0]
        return self.tap("conv_preds", logits).astype(jnp.float32)

    def conv(
        self,
        x: Array,
        width: int,
        size: int,
        strides: int,
        name: str,
        padding: PaddingLike = "SAME",
        groups: int = 1,
        *,
        train: bool,
    ) -> Array:
        """Applies a convolution without bias, BatchNorm and ReLU capped at 6."""
        x = self.normalized_convolution(
            x,
            width,
            (size, size),
            (name, f"{name}_bn"),
            train,
            norm=KERAS_NORM,
            strides=strides,
            padding=padding,
            feature_group_count=groups,
            use_bias=False,
            kernel_init=glorot_uniform(),
        )
        return self.tap(name, nn.relu6(x))
