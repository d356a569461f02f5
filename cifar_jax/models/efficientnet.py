"""EfficientNet: depthwise convolutions with squeeze-and-excitation.

Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks",
2019; Hu et al., "Squeeze-and-excitation networks", 2018.
"""

import functools
import math
from typing import ClassVar

from flax import linen as nn
from flax.linen.initializers import he_normal, normal
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.models.mobilenet_v2 import scaled
from cifar_jax.models.normalized import Activated

# For each stage: how many times as many channels its blocks have inside, its width, the
# number of blocks, the size of their kernels, and the stride of the first block.
STAGES = (
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)


class EfficientNet(Activated):
    """EfficientNet as commonly used for CIFAR, by default B0.

    As in kuangliu/pytorch-cifar, the first convolution keeps the image's size, and the
    dense layer follows the last block, without the paper's convolution to 1280
    channels. B0 has 3,598,598 parameters; pytorch-cifar counts 3,599,686 because its
    first block has a 1x1 convolution and a BatchNorm that are never applied.

    Attributes:
        width: factor of the number of channels, which is rounded to multiples of 8.
        depth: factor of the number of blocks in each stage, which is rounded up.
        dropout: probability of dropping an input of the dense layer.
        drop_connect: probability of dropping the last block of an image, leaving only
            its shortcut. It grows linearly from 0 at the first block (Huang et al.,
            "Deep networks with stochastic depth", 2016).
    """

    width: float = 1.0
    depth: float = 1.0
    dropout: float = 0.2
    drop_connect: float = 0.2

    smallest_image: ClassVar[int] = 16

    def __post_init__(self) -> None:
        check_range("width", self.width, above=0, at_most=100)
        check_range("depth", self.depth, above=0, at_most=50)
        check_range("dropout", self.dropout, at_least=0, below=1)
        check_range("drop_connect", self.drop_connect, at_least=0, below=1)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; training uses dropout and BatchNorm by batch statistics."""
        conv = functools.partial(self.conv, train=train, activation=nn.swish)
        x = conv(images, scaled(32, self.width), 3, "conv1")
        depths = [math.ceil(depth * self.depth) for _, _, depth, _, _ in STAGES]
        earlier = 0
        for stage, (expansion, channels, _, size, first_strides) in enumerate(STAGES):
            for index in range(depths[stage]):
                x = self.block(
                    x,
                    scaled(channels, self.width),
                    expansion,
                    size,
                    first_strides if index == 0 else 1,
                    self.drop_connect * earlier / sum(depths),
                    f"stage{stage + 1}_block{index + 1}",
                    train,
                )
                earlier += 1
        x = nn.Dropout(self.dropout, deterministic=not train)(x.mean(axis=(1, 2)))
        return self.predictions(x, normal(0.01))

    def block(
        self,
        x: Array,
        width: int,
        expansion: int,
        size: int,
        strides: int,
        drop: float,
        name: str,
        train: bool,
    ) -> Array:
        """Applies a block, and adds its input if the shapes are the same.

        Args:
            x: the input.
            width: output channels.
            expansion: how many times as many channels there are inside.
            size: height and width of the depthwise kernel.
            strides: of the depthwise kernel.
            drop: probability of dropping the block, if its input is added.
            name: of the block.
            train: whether this is a training step.
        """
        conv = functools.partial(self.conv, train=train, activation=nn.swish)
        inputs = x.shape[-1]
        inside = expansion * inputs
        y = x if expansion == 1 else conv(x, inside, 1, f"{name}_expand")
        y = conv(y, inside, size, f"{name}_depthwise", strides=strides, groups=inside)
        # A quarter of the block's inputs, not of the channels inside it.
        y = self.excite(y, max(1, inputs // 4), name)
        y = conv(y, width, 1, f"{name}_project", activation=None)
        if strides > 1 or inputs != width:
            return y
        # One draw for each image.
        y = nn.Dropout(drop, broadcast_dims=(1, 2, 3), deterministic=not train)(y)
        return self.tap(name, x + y)

    def excite(self, x: Array, width: int, name: str) -> Array:
        """Scales each channel by a factor computed from the means of all of them."""
        squeeze = self.dense(width, f"{name}_squeeze", kernel_init=he_normal())
        excite = self.dense(x.shape[-1], f"{name}_excite", kernel_init=he_normal())
        few = self.tap(f"{name}_squeeze", nn.swish(squeeze(x.mean(axis=(1, 2)))))
        factors = self.tap(f"{name}_excite", nn.sigmoid(excite(few)))
        return x * factors[:, None, None]
