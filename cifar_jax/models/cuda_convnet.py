"""cuda-convnet's networks for CIFAR-10; the tutorial's is derived from the second one.

The constants come from its files layers-18pct.cfg and layers-conv-local-11pct.cfg
and the accompanying layer-params files. (Krizhevsky, cuda-convnet, 2011,
https://code.google.com/archive/p/cuda-convnet.)
"""

import functools
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from flax.linen.initializers import normal, zeros_init
from flax.typing import Dtype, Initializer
from jax import lax
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.models.network import Network
from cifar_jax.ops import Conv, local_response_norm, max_pool
from cifar_jax.ops.product import product


class CudaConvnet18pct(Network):
    """Three 5x5 convolutions with pooling and LRN within each map, then a dense layer.

    It is named after its test error without augmentation. It is designed for 32x32
    images, for which it has 89,578 parameters with 10 classes.

    Attributes:
        lrn_radius: LRN sums over squares that extend this many pixels to each side.
        lrn_scale: factor of the mean square in them.
        lrn_power: the power of LRN's denominator.
    """

    lrn_radius: int = 1
    lrn_scale: float = 5e-5
    lrn_power: float = 0.75

    # Weight decays of 0.004, and 1 for the head, each divided by 0.004.
    weight_decays: ClassVar[Mapping[str, float]] = {
        "conv1": 1,
        "conv2": 1,
        "conv3": 1,
        "logits": 250,
    }
    smallest_image: ClassVar[int] = 8
    classifier: ClassVar[tuple[str, ...]] = ("logits",)

    def __post_init__(self) -> None:
        check_range("lrn_radius", self.lrn_radius, at_least=0, at_most=100)
        check_range("lrn_scale", self.lrn_scale, at_least=0)
        check_range("lrn_power", self.lrn_power, at_least=0)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits of images, regardless of `train`."""
        conv = functools.partial(
            Conv, kernel_size=(5, 5), dtype=self.dtype, implementation=self.ops
        )
        # `cifar_jax.ops` uses the layout (height, width, channel, batch).
        x = images.transpose(1, 2, 3, 0)
        x = conv(32, kernel_init=normal(1e-4), name="conv1")(x)
        x = max_pool(x, (3, 3), (2, 2), self.ops)
        x = self.tap("conv1", nn.relu(x), batch_axis=3)
        x = self.norm(x)
        x = conv(32, kernel_init=normal(0.01), name="conv2")(x)
        x = self.tap("conv2", nn.relu(x), batch_axis=3)
        x = self.norm(_average_pool(x))
        x = conv(64, kernel_init=normal(0.01), name="conv3")(x)
        x = self.tap("conv3", nn.relu(x), batch_axis=3)
        x = _average_pool(x)
        x = x.reshape(-1, x.shape[-1]).T
        dense = functools.partial(nn.Dense, kernel_init=normal(0.01), dtype=self.dtype)
        x = dense(self.num_classes, name="logits")(x)
        return self.tap("logits", x).astype(jnp.float32)

    def norm(self, x: Float[Array, "h w c n"]) -> Float[Array, "h w c n"]:
        """Applies local response normalization within each map."""
        return local_response_norm(
            x,
            depth_radius=self.lrn_radius,
            alpha=self.lrn_scale / (2 * self.lrn_radius + 1) ** 2,
            beta=self.lrn_power,
            axis=(0, 1),
            implementation=self.ops,
        )


class CudaConvnet11pct(Network):
    """Two 5x5 convolutions with pooling and LRN, then two locally connected layers.

    It is named after its test error with random crops and flips. It is designed for
    24x24 crops, for which it has 2,112,970 parameters with 10 classes.
    """

    # Weight decays of 0.004, and 0.01 for the head, each divided by 0.004.
    weight_decays: ClassVar[Mapping[str, float]] = {
        "local3": 1,
        "local4": 1,
        "logits": 2.5,
    }
    smallest_image: ClassVar[int] = 8
    classifier: ClassVar[tuple[str, ...]] = ("logits",)

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits of images, regardless of `train`."""
        conv = functools.partial(
            Conv, 64, (5, 5), dtype=self.dtype, implementation=self.ops
        )
        local = functools.partial(
            LocallyConnected,
            kernel_size=(3, 3),
            kernel_init=normal(0.04),
            dtype=self.dtype,
        )
        pool = functools.partial(
            max_pool, window=(3, 3), strides=(2, 2), implementation=self.ops
        )
        # The other constants are the defaults, which the tutorial adopted.
        norm = functools.partial(local_response_norm, axis=2, implementation=self.ops)

        # `cifar_jax.ops` uses the layout (height, width, channel, batch).
        x = images.transpose(1, 2, 3, 0)
        x = conv(kernel_init=normal(1e-4), name="conv1")(x)
        x = self.tap("conv1", nn.relu(x), batch_axis=3)
        x = norm(pool(x))
        x = conv(kernel_init=normal(0.01), name="conv2")(x)
        x = self.tap("conv2", nn.relu(x), batch_axis=3)
        x = pool(norm(x))
        x = local(64, name="local3")(x)
        x = self.tap("local3", nn.relu(x), batch_axis=3)
        x = local(32, name="local4")(x)
        x = self.tap("local4", nn.relu(x), batch_axis=3)
        x = x.reshape(-1, x.shape[-1]).T
        dense = functools.partial(nn.Dense, kernel_init=normal(0.01), dtype=self.dtype)
        x = dense(self.num_classes, name="logits")(x)
        return self.tap("logits", x).astype(jnp.float32)


class LocallyConnected(nn.Module):
    """A convolution with SAME padding and separate kernels at each position.

    Its parameters are those of `flax.linen.ConvLocal`, with as many biases as kernels.
    It is written as matrix products, because XLA's CPU code is slow at convolutions in
    loops.
    """

    features: int
    kernel_size: tuple[int, int]
    kernel_init: Initializer
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "h w c n"]) -> Float[Array, "h w k n"]:
        """Applies the kernels and adds the biases."""
        patches = _patches(x, self.kernel_size)
        h, w, values, _ = patches.shape
        shape = (h, w, values, self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", zeros_init(), (h, w, self.features))
        y = product(
            kernel.swapaxes(2, 3), patches, ((3,), (2,)), each=(0, 1), dtype=self.dtype
        )
        return y + bias[..., None]


def _patches(
    x: Float[Array, "h w c n"], kernel: tuple[int, int]
) -> Float[Array, "h w ckhkw n"]:
    """Returns the patch at each position, one whole channel after another."""
    h, w, c, n = x.shape
    kh, kw = kernel
    padding = lax.padtype_to_pads((h, w), kernel, (1, 1), "SAME")
    padded = jnp.pad(x, (*padding, (0, 0), (0, 0)))
    taps = [padded[i : i + h, j : j + w] for i in range(kh) for j in range(kw)]
    return jnp.stack(taps, axis=3).reshape(h, w, c * kh * kw, n)


def _average_pool(x: Float[Array, "h w c n"]) -> Float[Array, "oh ow c n"]:
    """Averages 3x3 windows at stride 2, over the pixels inside the image only."""
    # Flax treats the last axis as channels and the axes before it as spatial.
    return nn.avg_pool(x, (3, 3, 1), (2, 2, 1), "SAME", count_include_pad=False)
