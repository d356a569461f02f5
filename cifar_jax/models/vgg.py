"""VGG: stacks of 3x3 convolutions; pooling after each stack halves the image.

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image
recognition", 2015.
"""

import functools
from collections.abc import Callable
from typing import ClassVar

from flax import linen as nn
from flax.linen.initializers import glorot_uniform, he_normal, normal
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.models.network import Network

# Channels of the convolutions in each of the five stacks, as multiples of the first's.
FACTORS = (1, 2, 4, 8, 8)


class Stacks(Network):
    """What all VGG variants share.

    Attributes:
        width: Channels of the convolutions in the first stack; the others have 2, 4, 8
            and 8 times as many.
        depths: Number of convolutions in each stack, at most 200.
        dropout: Probability of dropping an input of any dense layer but the first.
    """

    width: int = 64
    depths: tuple[int, int, int, int, int] = (2, 2, 3, 3, 3)
    dropout: float = 0.0

    smallest_image: ClassVar[int] = 32

    def __post_init__(self) -> None:
        check_range("width", self.width, at_least=1)
        check_range("depths", self.depths, at_least=1, at_most=200)
        check_range("dropout", self.dropout, at_least=0, below=1)
        super().__post_init__()

    def stacks(
        self,
        images: Float[Array, "n h w 3"],
        layer: Callable[[Array, int, str], Array],
    ) -> Float[Array, "n h//32 w//32 d"]:
        """Applies the stacks.

        Args:
            images: Input of the first layer.
            layer: Computes a layer from its input, width and name.
        """
        x = images
        for block, (factor, depth) in enumerate(
            zip(FACTORS, self.depths, strict=True), 1
        ):
            for index in range(1, depth + 1):
                x = layer(x, factor * self.width, f"block{block}_conv{index}")
            x = self.max_pool(x, (2, 2), (2, 2))
        return x

    def drop(self, x: Array, train: bool) -> Array:
        """Drops values at random in training."""
        return nn.Dropout(self.dropout, deterministic=not train)(x)


class VGG(Stacks, kw_only=True):
    """VGG as published for ImageNet: three dense layers, no BatchNorm.

    Layer names and initialization are those of keras.applications: Glorot uniform
    kernels, zero biases. As in Keras, there is no dropout by default; the paper's rate
    is 0.5.

    Attributes:
        hidden: Width of the first two dense layers.
    """

    hidden: int = 4096
    num_classes: int = 1000

    classifier: ClassVar[tuple[str, ...]] = ("fc1", "fc2", "predictions")

    def __post_init__(self) -> None:
        check_range("hidden", self.hidden, at_least=1)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; applies dropout if `train` is true."""
        x = self.stacks(images, self.conv)
        x = x.reshape(x.shape[0], -1)
        for name in ("fc1", "fc2"):
            dense = self.dense(self.hidden, name, kernel_init=glorot_uniform())
            x = self.tap(name, nn.relu(dense(x)))
            x = self.drop(x, train)
        return self.predictions(x, glorot_uniform())

    def conv(self, x: Array, width: int, name: str) -> Array:
        """Applies one layer of a stack: convolution and ReLU."""
        conv = self.convolution(width, (3, 3), name, kernel_init=glorot_uniform())
        return self.tap(name, nn.relu(conv(x)))


class BatchNormVGG(Stacks):
    """VGG as commonly used for CIFAR: BatchNorm throughout and one dense layer.

    Convolution kernels are initialized as in He et al. (2015): normal, with variance 2
    divided by the number of inputs. The dense layer is initialized as normal with
    standard deviation 0.01, so that no class is strongly favored at the start.
    """

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        conv = functools.partial(self.conv, train=train)
        x = self.stacks(images, conv)
        x = self.drop(x.mean(axis=(1, 2)), train)
        return self.predictions(x, normal(0.01))

    def conv(self, x: Array, width: int, name: str, train: bool) -> Array:
        """Applies one layer of a stack: convolution, BatchNorm and ReLU."""
        x = self.normalized_convolution(
            x,
            width,
            (3, 3),
            (name, f"{name}_bn"),
            train,
            use_bias=False,
            kernel_init=he_normal(),
        )
        return self.tap(name, nn.relu(x))


VGG16_DEPTHS = (2, 2, 3, 3, 3)
VGG19_DEPTHS = (2, 2, 4, 4, 4)

vgg16 = functools.partial(VGG, depths=VGG16_DEPTHS)
vgg19 = functools.partial(VGG, depths=VGG19_DEPTHS)
vgg16_bn = functools.partial(BatchNormVGG, depths=VGG16_DEPTHS)
vgg19_bn = functools.partial(BatchNormVGG, depths=VGG19_DEPTHS)
