"""The base classes of networks whose convolutions are followed by BatchNorm."""

from collections.abc import Callable

from flax import linen as nn
from flax.linen.initializers import he_normal, normal
from jaxtyping import Array, Float

from cifar_jax.models.network import Network


class Normalized(Network):
    """A network whose convolutions are followed by BatchNorm instead of biases.

    Convolution kernels are initialized as in He et al. (2015): normal, with variance 2
    divided by the number of inputs. The dense layer is initialized as normal with
    standard deviation 0.01, so that no class is strongly favored at the start.
    """

    def normalized(
        self,
        x: Array,
        width: int,
        size: int,
        names: tuple[str, str],
        train: bool,
        strides: int = 1,
        groups: int = 1,
    ) -> Array:
        """Applies a convolution and BatchNorm.

        Args:
            x: the input.
            width: number of output channels.
            size: height and width of the kernel, which is odd. Images are padded by
                half of it on all sides.
            names: of the convolution and of its BatchNorm.
            train: whether this is a training step.
            strides: of the kernel.
            groups: number of groups of channels that are convolved separately.
        """
        return self.normalized_convolution(
            x,
            width,
            (size, size),
            names,
            train,
            strides=strides,
            padding=size // 2,
            feature_group_count=groups,
            use_bias=False,
            kernel_init=he_normal(),
        )

    def classify(self, x: Float[Array, "n h w c"]) -> Float[Array, "n classes"]:
        """Returns the logits, computed from the mean over all pixels."""
        return self.predictions(x.mean(axis=(1, 2)), normal(0.01))


class Activated(Normalized):
    """A network whose layers are a convolution, BatchNorm, and an activation each.

    It is initialized as described in `Normalized`.
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
        """Applies a layer; `name` is its convolution's, and BatchNorm's ends with _bn.

        See `normalized` for the other arguments; an activation of None is none.
        """
        names = (name, f"{name}_bn")
        x = self.normalized(x, width, size, names, train, strides, groups)
        return self.tap(name, activation(x) if activation else x)
