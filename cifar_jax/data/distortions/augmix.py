"""AugMix: a mean of the image and chains of operations on it."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, Num, UInt8

from cifar_jax.checks import check_range
from cifar_jax.data.distortions import operations as ops
from cifar_jax.data.distortions.base import Example
from cifar_jax.data.distortions.colors import as_bytes
from cifar_jax.data.distortions.spaces import Space, draw

SPACE = Space(0.3, lambda size: size / 3, 30.0, 0.9, (4, 0), bins=10)
_VALUES = (ops.POSTERIZE, ops.SOLARIZE, ops.AUTOCONTRAST, ops.EQUALIZE)
# The depth of a chain is drawn from 1 to this if it is not given.
_DEEPEST = 3


@dataclasses.dataclass(frozen=True)
class AugMix:
    """A weighted mean of the image and of what chains of operations make of it.

    Hendrycks et al., AugMix: A Simple Data Processing Method to Improve Robustness and
    Uncertainty, 2020; operations and magnitudes as in torchvision's AugMix, with
    bilinear interpolation. The paper's loss for the consistency of several views is not
    part of it.

    Attributes:
        severity: magnitudes are drawn from the lowest of 10, this many.
        mixture_width: the number of chains.
        chain_depth: operations in each chain; -1: drawn from 1 to 3.
        alpha: the image's weight is drawn from Beta(alpha, alpha); the rest is divided
            among the chains by a symmetric Dirichlet distribution with this parameter.
        all_ops: whether brightness, color, contrast and sharpness are among the
            operations. The paper leaves them out, since the corruptions of CIFAR-10-C
            are similar.
    """

    severity: int = 3
    mixture_width: int = 3
    chain_depth: int = -1
    alpha: float = 1.0
    all_ops: bool = True

    def __post_init__(self) -> None:
        check_range("severity", self.severity, at_least=1, at_most=SPACE.bins)
        check_range("mixture_width", self.mixture_width, at_least=1, at_most=16)
        check_range("chain_depth", self.chain_depth, at_least=-1, at_most=16)
        if self.chain_depth == 0:
            raise ValueError("chain_depth=0 must be at least 1, or -1 to draw it")
        check_range("alpha", self.alpha, above=0)

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> UInt8[Array, "h w c"]:
        image = as_bytes(image)
        share_key, weights_key, chains_key = jax.random.split(key, 3)
        share = jax.random.beta(share_key, self.alpha, self.alpha)
        alphas = jnp.full(self.mixture_width, self.alpha)
        weights = (1 - share) * jax.random.dirichlet(weights_key, alphas)
        keys = jax.random.split(chains_key, self.mixture_width)
        chains = jax.vmap(self._chain, (0, None))(keys, image)
        mixed = share * image + (weights[:, None, None, None] * chains).sum(axis=0)
        return jnp.clip(mixed, 0, 255).astype(jnp.uint8)

    def _chain(
        self, key: Key[Array, ""], image: UInt8[Array, "h w c"]
    ) -> UInt8[Array, "h w c"]:
        """Returns the image after a random chain of operations."""
        choices = (
            *ops.AFFINE,
            *(ops.BLENDS if self.all_ops else ()),
            *_VALUES,
        )
        magnitudes = SPACE.magnitudes(*image.shape[:2])[:, : self.severity]
        depth_key, own = jax.random.split(key)
        deepest = _DEEPEST if self.chain_depth == -1 else self.chain_depth
        lowest = 1 if self.chain_depth == -1 else deepest
        depth = jax.random.randint(depth_key, (), lowest, deepest + 1)
        for place, step_key in enumerate(jax.random.split(own, deepest)):
            operation, magnitude = draw(step_key, choices, magnitudes)
            operation = jnp.where(place < depth, operation, ops.IDENTITY)
            image = ops.transform(image, operation, magnitude, "bilinear")
        return image
