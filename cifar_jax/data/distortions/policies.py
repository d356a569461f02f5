"""AutoAugment and its successors: random operations of random magnitudes.

The operations, their magnitudes and their probabilities are those of
torchvision.transforms.v2, as is the interpolation, by nearest neighbors.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, Num, UInt8

from cifar_jax.checks import check_range
from cifar_jax.data.distortions import operations as ops
from cifar_jax.data.distortions.base import Example
from cifar_jax.data.distortions.colors import as_bytes
from cifar_jax.data.distortions.spaces import Space, draw


def _translate(size: int) -> float:
    return 150 / 331 * size


RAND = Space(0.3, _translate, 30.0, 0.9, (8, 4), bins=31)
AUTO = dataclasses.replace(RAND, bins=10)
WIDE = Space(0.99, lambda size: 32.0, 135.0, 0.99, (8, 2), bins=31)
_CHOICES = range(ops.INVERT)  # all but this one


@dataclasses.dataclass(frozen=True)
class TrivialAugment:
    """One of 14 operations, with one of 31 magnitudes.

    Müller and Hutter, TrivialAugment: Tuning-free Yet State-of-the-Art Data
    Augmentation, 2021; their wide ranges, as in torchvision's TrivialAugmentWide.
    Images are translated by up to 32 pixels, whatever their size.
    """

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> UInt8[Array, "h w c"]:
        image = as_bytes(image)
        drawn = draw(key, _CHOICES, WIDE.magnitudes(*image.shape[:2]))
        return ops.transform(image, *drawn)


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """Some of 14 operations, one after another, all with the same magnitude.

    Cubuk et al., RandAugment: Practical Automated Data Augmentation with a Reduced
    Search Space, 2020.

    Attributes:
        num_ops: how many operations; one may be drawn several times.
        magnitude: from 0 to 30.
    """

    num_ops: int = 2
    magnitude: int = 9

    def __post_init__(self) -> None:
        check_range("num_ops", self.num_ops, at_least=1, at_most=16)
        check_range("magnitude", self.magnitude, at_least=0, at_most=RAND.bins - 1)

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> UInt8[Array, "h w c"]:
        image = as_bytes(image)
        magnitudes = RAND.magnitudes(*image.shape[:2])[:, [self.magnitude]]
        for own in jax.random.split(key, self.num_ops):
            image = ops.transform(image, *draw(own, _CHOICES, magnitudes))
        return image


@dataclasses.dataclass(frozen=True)
class AutoAugment:
    """One of 25 pairs of operations, each with its probabilities and magnitudes.

    Cubuk et al., AutoAugment: Learning Augmentation Strategies from Data, 2019, table
    7: what was found for CIFAR-10.
    """

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> UInt8[Array, "h w c"]:
        image = as_bytes(image)
        magnitudes = AUTO.magnitudes(*image.shape[:2])
        policy_key, *keys = jax.random.split(key, 3)
        policy = jax.random.choice(policy_key, jnp.array(CIFAR10))
        for own, (operation, prob, place) in zip(keys, policy, strict=True):
            prob_key, sign_key = jax.random.split(own)
            applied = jax.random.bernoulli(prob_key, prob)
            operation = jnp.where(applied, operation, ops.IDENTITY).astype(jnp.int32)
            sign = jax.random.bernoulli(sign_key).astype(jnp.int32)
            magnitude = magnitudes[operation, place.astype(jnp.int32), sign]
            image = ops.transform(image, operation, magnitude)
        return image


# Two operations, each with its probability and the number of its magnitude, which does
# not matter where it is 0.
CIFAR10 = (
    ((ops.INVERT, 0.1, 0), (ops.CONTRAST, 0.2, 6)),
    ((ops.ROTATE, 0.7, 2), (ops.TRANSLATE_X, 0.3, 9)),
    ((ops.SHARPNESS, 0.8, 1), (ops.SHARPNESS, 0.9, 3)),
    ((ops.SHEAR_Y, 0.5, 8), (ops.TRANSLATE_Y, 0.7, 9)),
    ((ops.AUTOCONTRAST, 0.5, 0), (ops.EQUALIZE, 0.9, 0)),
    ((ops.SHEAR_Y, 0.2, 7), (ops.POSTERIZE, 0.3, 7)),
    ((ops.COLOR, 0.4, 3), (ops.BRIGHTNESS, 0.6, 7)),
    ((ops.SHARPNESS, 0.3, 9), (ops.BRIGHTNESS, 0.7, 9)),
    ((ops.EQUALIZE, 0.6, 0), (ops.EQUALIZE, 0.5, 0)),
    ((ops.CONTRAST, 0.6, 7), (ops.SHARPNESS, 0.6, 5)),
    ((ops.COLOR, 0.7, 7), (ops.TRANSLATE_X, 0.5, 8)),
    ((ops.EQUALIZE, 0.3, 0), (ops.AUTOCONTRAST, 0.4, 0)),
    ((ops.TRANSLATE_Y, 0.4, 3), (ops.SHARPNESS, 0.2, 6)),
    ((ops.BRIGHTNESS, 0.9, 6), (ops.COLOR, 0.2, 8)),
    ((ops.SOLARIZE, 0.5, 2), (ops.INVERT, 0.0, 0)),
    ((ops.EQUALIZE, 0.2, 0), (ops.AUTOCONTRAST, 0.6, 0)),
    ((ops.EQUALIZE, 0.2, 0), (ops.EQUALIZE, 0.6, 0)),
    ((ops.COLOR, 0.9, 9), (ops.EQUALIZE, 0.6, 0)),
    ((ops.AUTOCONTRAST, 0.8, 0), (ops.SOLARIZE, 0.2, 8)),
    ((ops.BRIGHTNESS, 0.1, 3), (ops.COLOR, 0.7, 0)),
    ((ops.SOLARIZE, 0.4, 5), (ops.AUTOCONTRAST, 0.9, 0)),
    ((ops.TRANSLATE_Y, 0.9, 9), (ops.TRANSLATE_Y, 0.7, 9)),
    ((ops.AUTOCONTRAST, 0.9, 0), (ops.SOLARIZE, 0.8, 3)),
    ((ops.EQUALIZE, 0.8, 0), (ops.INVERT, 0.1, 0)),
    ((ops.TRANSLATE_Y, 0.7, 9), (ops.AUTOCONTRAST, 0.9, 0)),
)
