"""The tutorial's network: `inference` in TensorFlow's cifar10.py."""

import functools
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from flax.linen.initializers import constant, truncated_normal
from flax.typing import Dtype
from jaxtyping import Array, Float

from cifar_jax.ops import Conv, Implementation, local_response_norm, max_pool


class TutorialCNN(nn.Module):
    """Two 5x5 convolutions with pooling and LRN, then three dense layers.

    1,068,298 parameters at 10 classes. Weights start truncated normal, redrawn
    beyond two sigma and not rescaled, as `tf.truncated_normal_initializer`.
    """

    # The layers whose weights the loss decays.
    decayed_layers: ClassVar[tuple[str, ...]] = ("local3", "local4")

    num_classes: int = 10
    dtype: Dtype = jnp.float32
    ops: Implementation = "auto"

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"]
    ) -> Float[Array, "n {self.num_classes}"]:
        """Logits of standardised images; softmax lives in the loss.

        Each layer sows its activations as {layer: values} into `activations` of
        the collection `intermediates`, in the order of the network.
        """
        conv = functools.partial(
            Conv,
            features=64,
            kernel_size=(5, 5),
            kernel_init=truncated_normal(0.05),
            dtype=self.dtype,
            implementation=self.ops,
        )
        dense = functools.partial(nn.Dense, dtype=self.dtype)
        hidden = functools.partial(
            dense, kernel_init=truncated_normal(0.04), bias_init=constant(0.1)
        )
        pool = functools.partial(
            max_pool, window=(3, 3), strides=(2, 2), implementation=self.ops
        )
        norm = functools.partial(local_response_norm, axis=2, implementation=self.ops)

        # The layout of `cifar_jax.ops`: height, width, channel, batch.
        x = images.transpose(1, 2, 3, 0)
        x = conv(bias_init=constant(0.0), name="conv1")(x)
        x = self._tap("conv1", nn.relu(x))
        x = norm(pool(x))
        x = conv(bias_init=constant(0.1), name="conv2")(x)
        x = self._tap("conv2", nn.relu(x))
        x = pool(norm(x))
        x = x.reshape(-1, x.shape[-1]).T
        x = hidden(384, name="local3")(x)
        x = self._tap("local3", nn.relu(x))
        x = hidden(192, name="local4")(x)
        x = self._tap("local4", nn.relu(x))
        head_init = truncated_normal(1 / 192)
        x = dense(self.num_classes, kernel_init=head_init, name="softmax_linear")(x)
        return self._tap("softmax_linear", x).astype(jnp.float32)

    def _tap(self, layer: str, x: Array) -> Array:
        batch_first = jnp.moveaxis(x, -1, 0) if x.ndim == 4 else x
        self.sow("intermediates", "activations", {layer: batch_first})
        return x
