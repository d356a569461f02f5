"""ConvMixer: depthwise convolutions mix places, 1x1 convolutions mix channels.

Trockman and Kolter, "Patches are all you need?", 2022, and its code for CIFAR-10,
https://github.com/locuslab/convmixer-cifar10.
"""

from typing import Any

import jax
from flax import linen as nn
from flax.typing import Initializer
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.models.activations import gelu
from cifar_jax.models.initializers import torch_uniform
from cifar_jax.models.network import Network
from cifar_jax.models.patches import check_patches


class ConvMixer(Network):
    """ConvMixer, by default that of the authors' code for CIFAR-10.

    For the 96% of the paper, with 0.7 million parameters, it has `kernel=9` and
    `patch=1`. Kernels and the biases of convolutions are initialized as by PyTorch:
    uniform up to 1 / sqrt(inputs).

    Attributes:
        width: channels of all convolutions.
        depth: number of blocks, at most 200.
        kernel: height and width of the depthwise convolutions.
        patch: height and width of a patch, which must divide those of the images.
    """

    width: int = 256
    depth: int = 8
    kernel: int = 5
    patch: int = 2

    def __post_init__(self) -> None:
        for name in ("width", "kernel", "patch"):
            check_range(name, getattr(self, name), at_least=1)
        check_range("depth", self.depth, at_least=1, at_most=200)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        check_patches(images, self.patch)
        inputs = self.patch**2 * images.shape[-1]
        x = self.layer(images, self.patch, "patches", train, inputs, strides=self.patch)
        for number in range(1, self.depth + 1):
            name = f"block{number}"
            x += self.layer(
                x,
                self.kernel,
                f"{name}_places",
                train,
                self.kernel**2,
                feature_group_count=self.width,
            )
            x = self.layer(x, 1, f"{name}_channels", train, self.width)
        return self.predictions(x.mean(axis=(1, 2)), torch_uniform)

    def layer(
        self,
        x: Float[Array, "n h w c"],
        size: int,
        name: str,
        train: bool,
        inputs: int,
        **options: Any,
    ) -> Float[Array, "n oh ow {self.width}"]:
        """Applies a convolution, GELU, and BatchNorm.

        Args:
            x: images.
            size: height and width of the kernel.
            name: name of the layer.
            train: whether this is a training step.
            inputs: number of inputs of each output.
            options: further options of the convolution.
        """
        convolution = self.convolution(
            self.width,
            (size, size),
            f"{name}_conv",
            kernel_init=torch_uniform,
            bias_init=_uniform_up_to(inputs**-0.5),
            **options,
        )
        x = self.batch_norm(f"{name}_bn", train)(gelu(convolution(x)))
        return self.tap(f"{name}_bn", x)


def _uniform_up_to(limit: float) -> Initializer:
    return lambda key, shape, dtype: jax.random.uniform(
        key, shape, dtype, -limit, limit
    )
