"""The base class of all networks."""

import functools
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float, PyTree

from cifar_jax.ops import (
    Implementation,
    conv_general_dilated,
    max_pool_channels_last,
)
from cifar_jax.ops.pool import Padding

# Arguments of `Network.batch_norm` that Keras's BatchNormalization has by default.
KERAS_NORM: Mapping[str, float] = {"epsilon": 1e-3, "momentum": 0.99}


class Network(nn.Module):
    """A network: `__call__(images, train=False)` returns float32 logits.

    The submodules that are named in `__call__` are its layers. In training it can draw
    from the random stream "dropout" (as `flax.linen.Dropout` does), which is a function
    of the run's seed and the step; shard_map and pmap draw differently than jit.

    Attributes:
        num_classes: the number of logits.
        dtype: of the computation; parameters are float32.
        ops: how the operations of `cifar_jax.ops` are computed, if it uses them.
        axis_name: the mesh axis that shares the batch, under shard_map or pmap: the
            statistics of BatchNorm are then those of the whole batch.
        frozen: patterns of parameters that are not trained; a BatchNorm with such a
            bias normalizes by its running averages, which stay as they are.
        weight_decays: factor of the weight decay for each layer's kernels, 0 for layers
            that are not named; None: 1 for every kernel.
        smallest_image: the smallest height and width of an image.
        images_for_init: the number of training images that `init_from_data` is given;
            0 if it is not to be called.
        classifier: the layers after those that compute features, in order. A training
            that starts from other weights begins anew with the first one whose shape
            differs.
    """

    num_classes: int = 10
    dtype: Dtype = jnp.float32
    ops: Implementation = "auto"
    axis_name: str | None = None
    frozen: tuple[str, ...] = ()

    weight_decays: ClassVar[Mapping[str, float] | None] = None
    smallest_image: ClassVar[int] = 1
    images_for_init: ClassVar[int] = 0
    classifier: ClassVar[tuple[str, ...]] = ("predictions",)

    def init_from_data(
        self, variables: Mapping[str, PyTree], images: Float[Array, "n h w c"]
    ) -> Mapping[str, PyTree]:
        """Returns initial variables that depend on the training images.

        Whitening the first layer's inputs is an example.

        Args:
            variables: as initialized from random numbers.
            images: preprocessed as for evaluation.
        """
        return variables

    def record(self, layer: str, x: Array, batch_axis: int = 0) -> Array:
        """Returns x, and records it as the activations of a layer.

        Summaries show recorded layers, and the report of numbers that are not finite
        names them; a network need not record any. Activations are sown as
        {layer: values}, batch first, into `activations` of the collection
        `intermediates`, in the order of the calls.

        Args:
            layer: its name.
            x: its activations.
            batch_axis: the axis of the images.
        """
        values = jnp.moveaxis(x, batch_axis, 0)
        self.sow("intermediates", "activations", {layer: values})
        return x

    def convolution(
        self, features: int, kernel_size: tuple[int, int], name: str, **options: Any
    ) -> nn.Conv:
        """Returns a Flax convolution for images with their channels last.

        Args:
            features: number of output channels.
            kernel_size: of any size.
            name: of the layer.
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
        """Applies a convolution and BatchNorm.

        Args:
            x: the images.
            features: number of output channels.
            kernel_size: of any size.
            names: of both layers.
            train: whether this is a training step.
            norm: further arguments of `batch_norm`.
            options: further options of `flax.linen.Conv`.
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
        """Returns the maxima of windows of images with their channels last.

        Args:
            x: the images.
            window: its height and width.
            strides: of the window.
            padding: by name as in lax, or before and after each of the two axes.
        """
        return max_pool_channels_last(x, window, strides, self.ops, padding)

    def predictions(
        self, x: Float[Array, "n c"], kernel_init: Initializer, use_bias: bool = True
    ) -> Float[Array, "n classes"]:
        """Returns the logits, computed by a dense layer named predictions."""
        head = nn.Dense(
            self.num_classes,
            use_bias=use_bias,
            dtype=self.dtype,
            kernel_init=kernel_init,
            name="predictions",
        )
        return self.record("predictions", head(x)).astype(jnp.float32)

    def batch_norm(
        self,
        name: str,
        train: bool,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        use_scale: bool = True,
    ) -> nn.BatchNorm:
        """Returns BatchNorm: by the batch in training, by running averages otherwise.

        One that is frozen goes by its running averages in training too.

        Args:
            name: of the layer.
            train: whether this is a training step.
            epsilon: added to the variance.
            momentum: weight of the old value in the running averages.
            use_scale: whether the outputs have a scale that is trained; a bias they do.
        """
        is_frozen = any(re.fullmatch(p, f"{name}/bias") for p in self.frozen)
        return nn.BatchNorm(
            use_running_average=is_frozen or not train,
            momentum=momentum,
            epsilon=epsilon,
            use_scale=use_scale,
            dtype=self.dtype,
            axis_name=self.axis_name,
            name=name,
        )
