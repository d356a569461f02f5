"""Airbench: a small network designed to be trained in a few epochs.

Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024, and its code,
https://github.com/KellerJordan/cifar10-airbench.
"""

import functools
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.initializers import zeros_init
from flax.typing import Dtype
from jaxtyping import Array, Float, Key, PyTree

from cifar_jax.checks import check_range
from cifar_jax.models.activations import gelu
from cifar_jax.models.initializers import torch_uniform
from cifar_jax.models.network import Network

# Added to the variances before whitening divides by their square roots.
_WHITENING_EPSILON = 5e-4
_WHITENING_SIZE = 2


def partly_identity(
    key: Key[Array, ""], shape: tuple[int, ...], dtype: Dtype = jnp.float32
) -> Float[Array, "kh kw c k"]:
    """Returns an initial kernel whose first outputs are its inputs.

    There is one such output per input channel; the other outputs are random. (In
    PyTorch: `dirac_`.)
    """
    height, width, inputs, outputs = shape
    kernel = torch_uniform(key, shape, dtype)
    copies = min(inputs, outputs)
    kernel = kernel.at[..., :copies].set(0)
    center = kernel[height // 2, width // 2].at[:, :copies].set(jnp.eye(inputs, copies))
    return kernel.at[height // 2, width // 2].set(center)


def unit_variance_uniform(
    key: Key[Array, ""], shape: tuple[int, ...], dtype: Dtype = jnp.float32
) -> Float[Array, "..."]:
    """Returns an initial kernel whose values have a standard deviation of exactly 1."""
    kernel = torch_uniform(key, shape, dtype)
    return kernel / kernel.std(ddof=1)


def uniform_bias(
    key: Key[Array, ""], shape: tuple[int, ...], dtype: Dtype = jnp.float32
) -> Float[Array, "..."]:
    """Returns the initial bias of the whitening convolution for color images.

    It is uniform up to 1 / sqrt(inputs of a window), which is PyTorch's default.
    """
    limit = (_WHITENING_SIZE**2 * 3) ** -0.5
    return jax.random.uniform(key, shape, dtype, -limit, limit)


def whitening_kernel(
    images: Float[Array, "n h w c"], size: int = _WHITENING_SIZE
) -> Float[Array, "{size} {size} c filters"]:
    """Returns filters that make the values of patches uncorrelated, with variance 1.

    These are the principal components of size x size patches of the images, by falling
    variance, each divided by the square root of its variance; then their negatives. The
    mean of the patches is not subtracted, since inputs have a mean of about 0.
    """
    height, width, channels = images.shape[1:]
    patches = jnp.stack(
        [
            images[:, i : height - size + 1 + i, j : width - size + 1 + j]
            for i in range(size)
            for j in range(size)
        ],
        axis=3,
    ).reshape(-1, size * size * channels)
    moments = jnp.dot(patches.T, patches, precision="highest") / len(patches)
    variances, components = jnp.linalg.eigh(moments)
    filters = (components / jnp.sqrt(variances + _WHITENING_EPSILON))[:, ::-1]
    filters = jnp.concatenate([filters, -filters], axis=1)
    return filters.reshape(size, size, channels, -1)


class Airbench(Network):
    """A whitening convolution and three groups of 3x3 convolutions.

    Every convolution in a group is followed by BatchNorm without a scale and an
    activation; the first one has max pooling before them. The filters of the whitening
    convolution come from the training images and are not meant to be trained:
    `--param_groups="group('whiten/kernel', frozen=True)"`.

    Attributes:
        widths: channels of each group.
        depth: convolutions in each group. With three, the activations of the first one
            are added to the outputs of the last one.
        logit_scale: factor of the logits.
        momentum: weight of the old value in BatchNorm's running averages.
        muon: whether to initialize for Muon: without nearly zero logits, and with
            random biases in the whitening convolution.
    """

    widths: tuple[int, int, int] = (64, 256, 256)
    depth: int = 2
    logit_scale: float = 1 / 9
    momentum: float = 0.6
    muon: bool = False

    # After a 2x2 convolution and three poolings, this leaves 3x3 for the last pooling.
    smallest_image: ClassVar[int] = 25
    images_for_init: ClassVar[int] = 5000

    def __post_init__(self) -> None:
        check_range("widths", self.widths, at_least=1)
        check_range("depth", self.depth, at_least=1, at_most=200)
        check_range("logit_scale", self.logit_scale, above=0)
        check_range("momentum", self.momentum, at_least=0, at_most=1)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; BatchNorm uses batch statistics if `train` is true."""
        size = (_WHITENING_SIZE, _WHITENING_SIZE)
        filters = 2 * _WHITENING_SIZE**2 * images.shape[-1]
        bias_init = uniform_bias if self.muon else zeros_init()
        whiten = self.convolution(
            filters, size, "whiten", padding="VALID", bias_init=bias_init
        )
        x = self.tap("whiten", gelu(whiten(images)))
        for number, width in enumerate(self.widths, 1):
            x = self.group(x, width, f"group{number}", train)
        x = self.max_pool(x, (3, 3), (3, 3)).reshape(x.shape[0], -1)
        head_init = unit_variance_uniform if self.muon else torch_uniform
        return self.predictions(x, head_init, use_bias=False) * self.logit_scale

    def init_from_data(
        self, variables: Mapping[str, PyTree], images: Float[Array, "n h w c"]
    ) -> Mapping[str, PyTree]:
        """Returns the variables with whitening filters computed from the images."""
        params = dict(variables["params"])
        params["whiten"] = params["whiten"] | {"kernel": whitening_kernel(images)}
        return {**variables, "params": params}

    def group(
        self, x: Float[Array, "n h w c"], width: int, name: str, train: bool
    ) -> Float[Array, "n oh ow {width}"]:
        """Applies a group of convolutions, which halves the image."""
        shortcut: Array | None = None
        for number in range(1, self.depth + 1):
            conv = self.convolution(
                width,
                (3, 3),
                f"{name}_conv{number}",
                use_bias=False,
                kernel_init=partly_identity,
            )
            x = conv(x)
            if number == 1:
                x = self.max_pool(x, (2, 2), (2, 2))
            norm = self.batch_norm(
                f"{name}_norm{number}",
                train,
                epsilon=1e-12,
                momentum=self.momentum,
                use_scale=False,
            )
            x = norm(x)
            if shortcut is not None and number == self.depth:
                x += shortcut
            x = self.tap(f"{name}_conv{number}", gelu(x))
            if number == 1 and self.depth == 3:
                shortcut = x
        return x


_muon = functools.partial(Airbench, muon=True)
airbench94 = functools.partial(_muon, widths=(64, 256, 256), logit_scale=1 / 256)
airbench94_sgd = functools.partial(Airbench, widths=(64, 256, 256))
airbench95 = functools.partial(Airbench, widths=(128, 384, 384))
airbench96 = functools.partial(Airbench, widths=(128, 384, 512), depth=3, momentum=0.9)
# A quarter of the computation, for CPUs.
sprint = functools.partial(_muon, widths=(32, 128, 128), logit_scale=1 / 128)
