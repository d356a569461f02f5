"""MobileNet: every convolution in two, over the image and over the channels.

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

from cifar_jax.models.network import Network

# Width and strides of each pair of convolutions.
PAIRS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *5 * ((512, 1),),
    (1024, 2),
    (1024, 1),
)


class MobileNet(Network):
    """MobileNet at its full width, as in keras.applications.

    Layers are named as there and start as there: kernels Glorot uniform, biases zero.
    What is left out is Keras's dropout of 0.001 before the last layer.
    """

    num_classes: int = 1000

    smallest_image: ClassVar[int] = 32

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Logits; BatchNorm by the batch if this is a step of training."""
        conv = functools.partial(self.conv, train=train)
        x = conv(images, 32, 3, 2, "conv1")
        for index, (width, strides) in enumerate(PAIRS, 1):
            channels = x.shape[-1]
            # For an odd size this is not SAME, which pads both sides.
            padding = "SAME" if strides == 1 else ((0, 1), (0, 1))
            x = conv(
                x, channels, 3, strides, f"conv_dw_{index}", padding, groups=channels
            )
            x = conv(x, width, 1, 1, f"conv_pw_{index}")
        x = x.mean(axis=(1, 2), keepdims=True)
        head = self.convolution(
            self.num_classes, (1, 1), "conv_preds", kernel_init=glorot_uniform()
        )
        logits = head(x)[:, 0, 0]
        return self.record("conv_preds", logits).astype(jnp.float32)

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
        """A convolution without bias, BatchNorm, and ReLU cut off at 6."""
        conv = self.convolution(
            width,
            (size, size),
            name,
            strides=strides,
            padding=padding,
            feature_group_count=groups,
            use_bias=False,
            kernel_init=glorot_uniform(),
        )
        norm = self.batch_norm(f"{name}_bn", train, epsilon=1e-3, momentum=0.99)
        return self.record(name, nn.relu6(norm(conv(x))))
