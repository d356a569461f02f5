"""What all networks have in common."""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from cifar_jax.ops import Implementation, conv_general_dilated


class Network(nn.Module):
    """A network: `__call__(images, train=False)` gives float32 logits.

    The submodules that it names in `__call__` are its layers; a layer's kernels are
    what weight decay is about.

    Attributes:
        num_classes: how many logits there are.
        dtype: of the computation; parameters are float32.
        ops: how the operations of `cifar_jax.ops` are computed, where it uses them.
        axis_name: of the axis over which a batch is shared out, if it is (by shard_map
            or pmap): the statistics of BatchNorm are then those of the whole batch.
        weight_decays: factor of the weight decay for each layer's kernels, none for
            layers that are not named; None: 1 for every kernel.
        smallest_image: height and width that an image must have.
    """

    num_classes: int = 10
    dtype: Dtype = jnp.float32
    ops: Implementation = "auto"
    axis_name: str | None = None

    weight_decays: ClassVar[Mapping[str, float] | None] = None
    smallest_image: ClassVar[int] = 1

    def record(self, layer: str, x: Array, batch_axis: int = 0) -> Array:
        """Returns x, which is recorded as the activations of a layer.

        They are sown as {layer: values}, batch first, into `activations` of the
        collection `intermediates`, so in the order of the calls.
        """
        values = jnp.moveaxis(x, batch_axis, 0)
        self.sow("intermediates", "activations", {layer: values})
        return x

    def convolution(
        self, features: int, kernel_size: tuple[int, int], name: str, **options: Any
    ) -> nn.Conv:
        """A convolution by Flax, of images with their channels last.

        Args:
            features: how many channels it makes.
            kernel_size: of any size.
            name: of the layer.
            options: further ones of `flax.linen.Conv`.
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

    def predictions(
        self, x: Float[Array, "n c"], kernel_init: Initializer
    ) -> Float[Array, "n classes"]:
        """The logits, by a last dense layer of that name."""
        head = nn.Dense(
            self.num_classes,
            dtype=self.dtype,
            kernel_init=kernel_init,
            name="predictions",
        )
        return self.record("predictions", head(x)).astype(jnp.float32)

    def batch_norm(
        self, name: str, train: bool, epsilon: float = 1e-5, momentum: float = 0.9
    ) -> nn.BatchNorm:
        """BatchNorm: of the batch while training, else by the running averages.

        Args:
            name: of the layer.
            train: whether this is a step of training.
            epsilon: added to the variance.
            momentum: weight of the old value in the running averages.
        """
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=momentum,
            epsilon=epsilon,
            dtype=self.dtype,
            axis_name=self.axis_name,
            name=name,
        )
