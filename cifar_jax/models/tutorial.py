"""The tutorial's network, `inference` in TensorFlow's cifar10.py."""

import functools
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from flax.linen.initializers import constant, truncated_normal
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.models.network import Network
from cifar_jax.ops import Conv, local_response_norm, max_pool


class TutorialCNN(Network):
    """Two 5x5 convolutions with pooling and LRN, then three dense layers.

    It has 1,068,298 parameters for 10 classes. Weights are initialized from a truncated
    normal distribution, redrawn beyond two standard deviations and not rescaled, as by
    `tf.truncated_normal_initializer`.

    Attributes:
        width: channels of both convolutions.
        hidden: widths of the first two dense layers.
    """

    width: int = 64
    hidden: tuple[int, int] = (384, 192)

    weight_decays: ClassVar[Mapping[str, float]] = {"local3": 1, "local4": 1}
    classifier: ClassVar[tuple[str, ...]] = (
        "local3",
        "local4",
        "softmax_linear",
    )

    def __post_init__(self) -> None:
        check_range("width", self.width, at_least=1)
        check_range("hidden", self.hidden, at_least=1)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits of standardized images, regardless of `train`."""
        conv = functools.partial(
            Conv,
            features=self.width,
            kernel_size=(5, 5),
            kernel_init=truncated_normal(0.05),
            dtype=self.dtype,
            implementation=self.ops,
        )
        dense = functools.partial(nn.Dense, dtype=self.dtype)
        hidden = functools.partial(
            dense, kernel_init=truncated_normal(0.04), bias_init=constant(0.1)
        )

        # `cifar_jax.ops` uses the layout (height, width, channel, batch).
        x = images.transpose(1, 2, 3, 0)
        x = conv(bias_init=constant(0.0), name="conv1")(x)
        x = self.tap("conv1", nn.relu(x), batch_axis=3)
        x = self.norm(self.pool(x))
        x = conv(bias_init=constant(0.1), name="conv2")(x)
        x = self.tap("conv2", nn.relu(x), batch_axis=3)
        x = self.pool(self.norm(x))
        x = x.reshape(-1, x.shape[-1]).T
        x = hidden(self.hidden[0], name="local3")(x)
        x = self.tap("local3", nn.relu(x))
        x = hidden(self.hidden[1], name="local4")(x)
        x = self.tap("local4", nn.relu(x))
        head_init = truncated_normal(1 / self.hidden[1])
        x = dense(self.num_classes, kernel_init=head_init, name="softmax_linear")(x)
        return self.tap("softmax_linear", x).astype(jnp.float32)

    def pool(self, x: Float[Array, "h w c n"]) -> Float[Array, "oh ow c n"]:
        """Halves the image by max pooling."""
        return max_pool(x, (3, 3), (2, 2), self.ops)

    def norm(self, x: Float[Array, "h w c n"]) -> Float[Array, "h w c n"]:
        """Applies local response normalization over nine channels."""
        return local_response_norm(x, axis=2, implementation=self.ops)
