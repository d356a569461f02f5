"""Residual networks with pre-activation: BatchNorm and ReLU before each convolution.

He et al., "Identity mappings in deep residual networks", 2016; Zagoruyko and Komodakis,
"Wide residual networks", 2016; Hu et al., "Squeeze-and-excitation networks", 2018.
"""

import functools

from flax import linen as nn
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.models.initializers import he_normal_of_outputs, torch_uniform
from cifar_jax.models.network import Network
from cifar_jax.models.resnet import stages
from cifar_jax.models.squeeze_excitation import squeeze_and_excite


class PreActivation(Network, kw_only=True):
    """What residual networks with pre-activation share.

    Kernels are initialized as in the code of the first two papers: normal, with
    variance 2 divided by the number of outputs times the size of the window; in the
    dense layer, uniform up to 1 / sqrt(inputs), with biases of zero.

    Attributes:
        dropout: Probability of dropping an input of the second convolution of a block.
    """

    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_range("dropout", self.dropout, at_least=0, below=1)
        super().__post_init__()

    def block(
        self, x: Array, width: int, strides: int, name: str, train: bool
    ) -> Array:
        """Adds two 3x3 convolutions to the input.

        If its shape changes, the input is replaced with a 1x1 convolution of what the
        first 3x3 convolution sees.
        """
        activated = self.activate(x, f"{name}_1", train)
        shortcut = x
        if strides > 1 or x.shape[-1] != width:
            shortcut = self.conv(activated, width, 1, strides, f"{name}_0")
        return shortcut + self.branch(activated, width, strides, name, train)

    def branch(
        self, x: Array, width: int, strides: int, name: str, train: bool
    ) -> Array:
        """Returns what a block adds to its input."""
        x = self.conv(x, width, 3, strides, f"{name}_1")
        x = self.activate(x, f"{name}_2", train)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return self.conv(x, width, 3, 1, f"{name}_2")

    def activate(self, x: Array, name: str, train: bool) -> Array:
        """Applies BatchNorm and ReLU."""
        return nn.relu(self.batch_norm(f"{name}_bn", train)(x))

    def conv(self, x: Array, width: int, size: int, strides: int, name: str) -> Array:
        """Applies a convolution without bias."""
        name = f"{name}_conv"
        conv = self.convolution(
            width,
            (size, size),
            name,
            strides=strides,
            padding=size // 2,
            use_bias=False,
            kernel_init=he_normal_of_outputs,
        )
        return self.tap(name, conv(x))

    def head(self, x: Float[Array, "n h w c"]) -> Float[Array, "n classes"]:
        """Returns the logits of the last block's output."""
        return self.predictions(x.mean(axis=(1, 2)), torch_uniform)


class WideResNet(PreActivation):
    """Wide residual network, WRN-depth-width: few blocks with many channels.

    The paper's dropout is 0.3, or none.

    Attributes:
        depth: Number of layers, 6n + 4 for three stages of n blocks.
        width: Factor of the channels of the stages: 16, 32 and 64.
    """

    depth: int = 28
    width: int = 10

    def __post_init__(self) -> None:
        check_range("depth", self.depth, at_least=10, at_most=1204)
        if self.depth % 6 != 4:
            raise ValueError(
                f"depth={self.depth} must be 6n + 4, such as 16, 22, 28 or 40"
            )
        check_range("width", self.width, at_least=1)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; uses batch statistics and dropout if `train` is true."""
        x = self.conv(images, 16, 3, 1, "conv1")
        block = functools.partial(self.block, train=train)
        x = stages(x, 16 * self.width, 3 * ((self.depth - 4) // 6,), block)
        return self.head(self.activate(x, "last", train))


class PreActResNet(PreActivation):
    """ResNet with pre-activation, as commonly used for CIFAR.

    Other than in the paper, nothing normalizes the output of the last block: this is
    kuangliu/pytorch-cifar's network, whose number of parameters is often quoted.

    Attributes:
        width: Channels of the first stage; each later stage has twice as many.
        depths: Number of blocks in each stage, at most 200.
    """

    width: int = 64
    depths: tuple[int, ...] = (2, 2, 2, 2)

    def __post_init__(self) -> None:
        check_range("width", self.width, at_least=1)
        check_range("depths", self.depths, at_least=1, at_most=200)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; uses batch statistics and dropout if `train` is true."""
        x = self.stem(images, train)
        block = functools.partial(self.block, train=train)
        return self.head(stages(x, self.width, self.depths, block))

    def stem(self, images: Float[Array, "n h w 3"], train: bool) -> Array:
        """Returns the input of the first block."""
        return self.conv(images, self.width, 3, 1, "conv1")


class SENet(PreActResNet):
    """PreActResNet whose blocks weight their channels by what the image contains.

    As in kuangliu/pytorch-cifar, BatchNorm and ReLU follow the first convolution.

    Attributes:
        reduction: Number of channels per unit of the layer that the weights are
            computed from.
    """

    reduction: int = 16

    def __post_init__(self) -> None:
        check_range("reduction", self.reduction, at_least=1)
        if self.reduction > self.width:
            raise ValueError(
                f"reduction={self.reduction} must be at most width={self.width}"
            )
        super().__post_init__()

    def stem(self, images: Float[Array, "n h w 3"], train: bool) -> Array:
        """Returns the input of the first block."""
        return self.activate(super().stem(images, train), "conv1", train)

    def branch(
        self, x: Array, width: int, strides: int, name: str, train: bool
    ) -> Array:
        """Returns what a block adds to its input."""
        x = super().branch(x, width, strides, name, train)
        return squeeze_and_excite(self, x, width // self.reduction, name)


preact_resnet18 = functools.partial(PreActResNet, depths=(2, 2, 2, 2))
senet18 = functools.partial(SENet, depths=(2, 2, 2, 2))
