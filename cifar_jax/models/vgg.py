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

from cifar_jax.models.network import Network

# Numbers of channels of the convolutions in each of the five stacks.
WIDTHS = (64, 128, 256, 512, 512)


def stacks(
    images: Float[Array, "n h w 3"],
    depths: tuple[int, ...],
    layer: Callable[[Array, int, str], Array],
    pool: Callable[..., Array],
) -> Float[Array, "n h//32 w//32 512"]:
    """Applies the stacks, which all VGG variants share.

    Args:
        images: Input of the first layer.
        depths: Number of layers in each stack.
        layer: Computes a layer from its input, width and name.
        pool: `Network.max_pool`.
    """
    x = images
    for block, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True), 1):
        for index in range(1, depth + 1):
            x = layer(x, width, f"block{block}_conv{index}")
        x = pool(x, (2, 2), (2, 2))
    return x


class VGG(Network, kw_only=True):
    """VGG as published for ImageNet: three dense layers, no BatchNorm.

    Layer names and initialization are those of keras.applications: Glorot uniform
    kernels, zero biases. As in Keras, the paper's dropout is omitted.

    Attributes:
        depths: Number of convolutions in each stack.
    """

    depths: tuple[int, ...]
    num_classes: int = 1000

    smallest_image: ClassVar[int] = 32
    classifier: ClassVar[tuple[str, ...]] = ("fc1", "fc2", "predictions")

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits, regardless of `train`."""
        dense = functools.partial(
            nn.Dense, dtype=self.dtype, kernel_init=glorot_uniform()
        )
        x = stacks(images, self.depths, self.conv, self.max_pool)
        x = x.reshape(x.shape[0], -1)
        for name in ("fc1", "fc2"):
            x = self.record(name, nn.relu(dense(4096, name=name)(x)))
        return self.predictions(x, glorot_uniform())

    def conv(self, x: Array, width: int, name: str) -> Array:
        """Applies one layer of a stack: convolution and ReLU."""
        conv = self.convolution(width, (3, 3), name, kernel_init=glorot_uniform())
        return self.record(name, nn.relu(conv(x)))


class BatchNormVGG(Network, kw_only=True):
    """VGG as commonly used for CIFAR: BatchNorm throughout and one dense layer.

    Convolution kernels are initialized as in He et al. (2015): normal, with variance 2
    divided by the number of inputs. The dense layer is initialized as normal with
    standard deviation 0.01, so that no class is strongly favored at the start.

    Attributes:
        depths: Number of convolutions in each stack.
    """

    depths: tuple[int, ...]

    smallest_image: ClassVar[int] = 32

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        conv = functools.partial(self.conv, train=train)
        x = stacks(images, self.depths, conv, self.max_pool)
        return self.predictions(x.mean(axis=(1, 2)), normal(0.01))

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
        return self.record(name, nn.relu(x))


VGG16_DEPTHS = (2, 2, 3, 3, 3)
VGG19_DEPTHS = (2, 2, 4, 4, 4)

vgg16 = functools.partial(VGG, depths=VGG16_DEPTHS)
vgg19 = functools.partial(VGG, depths=VGG19_DEPTHS)
vgg16_bn = functools.partial(BatchNormVGG, depths=VGG16_DEPTHS)
vgg19_bn = functools.partial(BatchNormVGG, depths=VGG19_DEPTHS)
