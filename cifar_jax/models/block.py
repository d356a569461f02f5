"""The base class of networks and their parts."""

import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from cifar_jax.ops import (
    Implementation,
    conv_general_dilated,
    dot_general,
    max_pool_channels_last,
)
from cifar_jax.ops.pool import Padding

# The defaults of Keras's BatchNormalization, as arguments of `Block.batch_norm`.
KERAS_NORM: Mapping[str, float] = {"epsilon": 1e-3, "momentum": 0.99}


class Block(nn.Module, kw_only=True):
    """A network or part of one, which must be given the dtype and ops of the whole.

    In a network: `ResidualBlock(64, dtype=self.dtype, ops=self.ops, name="block1")(x)`.

    Attributes:
        dtype: data type of the computation; parameters are float32.
        ops: how the operations in `cifar_jax.ops` are computed, if it uses them.
    """

    dtype: Dtype = jnp.float32
    ops: Implementation = "auto"

    def convolution(
        self, features: int, kernel_size: tuple[int, int], name: str, **options: Any
    ) -> nn.Conv:
        """Returns a convolution for channels-last images.

        Args:
            features: number of output channels.
            kernel_size: height and width of the kernel, of any size.
            name: layer name.
            options: further options of `flax.linen.Conv`.
        """
        return nn.Conv(
            features,
            kernel_size,
            dtype=self.dtype,
            conv_general_dilated=functools.partial(
                conv_general_dilated, implementation=self.ops
            ),
            name=name,
            **options,
        )

    def dense(self, features: int, name: str, **options: Any) -> nn.Dense:
        """Returns a dense layer for rows of features.

        Args:
            features: number of output features.
            name: layer name.
            options: further options of `flax.linen.Dense`.
        """
        return nn.Dense(
            features,
            dtype=self.dtype,
            dot_general=functools.partial(dot_general, implementation=self.ops),
            name=name,
            **options,
        )

    def batch_norm(
        self,
        name: str,
        train: bool,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        use_scale: bool = True,
    ) -> nn.BatchNorm:
        """Returns BatchNorm: by the batch in training, else by running averages.

        Args:
            name: layer name.
            train: whether this is a training step.
            epsilon: added to the variance.
            momentum: weight of the old value in the running averages.
            use_scale: whether to train a scale; a bias is always trained.
        """
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=momentum,
            epsilon=epsilon,
            use_scale=use_scale,
            dtype=self.dtype,
            name=name,
        )

    def layer_norm(self, name: str) -> nn.LayerNorm:
        """Returns LayerNorm of the last axis, with an epsilon of 1e-6.

        Args:
            name: layer name.
        """
        return nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name=name)

    def normalized_convolution(
        self,
        x: Float[Array, "n h w c"],
        features: int,
        kernel_size: tuple[int, int],
        names: tuple[str, str],
        train: bool,
        norm: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Float[Array, "n oh ow {features}"]:
        """Applies a convolution and a BatchNorm with these names.

        `norm` has further arguments of `batch_norm`; see also `convolution`.
        """
        convolution = self.convolution(features, kernel_size, names[0], **options)
        return self.batch_norm(names[1], train, **norm or {})(convolution(x))

    def max_pool(
        self,
        x: Float[Array, "n h w c"],
        window: tuple[int, int],
        strides: tuple[int, int],
        padding: Padding = "VALID",
    ) -> Float[Array, "n oh ow c"]:
        """Max-pools channels-last images.

        The padding is a name as in lax, or pairs of before and after for the two axes.
        """
        return max_pool_channels_last(x, window, strides, self.ops, padding)

    def tap(self, layer: str, x: Array, batch_axis: int = 0) -> Array:
        """Returns x after tapping it as the activations of a layer.

        Summaries show tapped layers, and reports of non-finite values name them; a
        network need not tap any. `models.collect_taps` returns them.

        Args:
            layer: the layer's name within this block.
            x: its activations.
            batch_axis: the axis of the images.
        """
        # In one place for the whole network, to preserve the order of the calls.
        outermost: nn.Module = self
        while isinstance(outermost.parent, nn.Module):
            outermost = outermost.parent
        name = "/".join((*self.path[len(outermost.path) :], layer))
        values = jnp.moveaxis(x, batch_axis, 0)
        outermost.sow("intermediates", "activations", {name: values})
        return x
