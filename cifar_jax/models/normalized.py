"""The base class of networks whose convolutions are followed by BatchNorm."""

from collections.abc import Callable

from flax import linen as nn
from flax.linen.initializers import he_normal, normal
from jaxtyping import Array, Float

from cifar_jax.models.network import Network


class NormalizedNetwork(Network):
    """A network of convolutions without biases, each followed by BatchNorm.

    Convolution kernels are initialized as in He et al. (2015): normal, with variance 2
    divided by the number of inputs. The dense layer is initialized as normal with
    standard deviation 0.01, so that no class is strongly favored at the start.
    """

    def conv(
        self,
        x: Array,
        width: int,
        size: int,
        name: str,
        *,
        train: bool,
        strides: int = 1,
        groups: int = 1,
        activation: Callable[[Array], Array] | None = nn.relu,
    ) -> Array:
        """Applies a convolution, BatchNorm, and an activation.

        Args:
            x: the input.
            width: number of output channels.
            size: height and width of the kernel, which is odd. Images are padded by
                half of it on all sides.
            name: of the convolution; BatchNorm's ends with _bn.
            train: whether this is a training step.
            strides: of the kernel.
            groups: number of groups of channels that are convolved separately.
            activation: None for none.
        """
        x = self.normalized_convolution(
            x,
            width,
            (size, size),
            (name, f"{name}_bn"),
            train,
            strides=strides,
            padding=size // 2,
            feature_group_count=groups,
            use_bias=False,
            kernel_init=he_normal(),
        )
        return self.tap(name, activation(x) if activation else x)

    def classify(self, x: Float[Array, "n h w c"]) -> Float[Array, "n classes"]:
        """Returns the logits, computed from the mean over all pixels."""
        return self.predictions(x.mean(axis=(1, 2)), normal(0.01))
