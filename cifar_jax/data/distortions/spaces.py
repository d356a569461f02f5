"""How strong the operations of a policy are, and how one of them is drawn.

All numbers are those of torchvision.transforms.v2.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from cifar_jax.data.distortions import operations as ops


@dataclasses.dataclass(frozen=True)
class Space:
    """The largest magnitude of each operation.

    Attributes:
        shear: tangent of the angle.
        translate: the number of pixels, as a function of the size of the image.
        rotate: degrees.
        blend: the change of the factor.
        bits: those that posterize keeps at the smallest magnitude and at the largest.
        bins: the number of magnitudes, from the smallest to the largest.
    """

    shear: float
    translate: Callable[[int], float]
    rotate: float
    blend: float
    bits: tuple[int, int]
    bins: int

    def magnitudes(
        self, height: int, width: int
    ) -> Float[Array, "operations bins signs"]:
        """Returns the evenly spaced magnitudes of each operation, and their negatives.

        Those of operations without a direction are the same with either sign.
        """
        ends = dict.fromkeys(range(len(ops.NAMES)), (0.0, 0.0))
        ends[ops.SHEAR_X] = ends[ops.SHEAR_Y] = 0, self.shear
        ends[ops.TRANSLATE_X] = 0, self.translate(width)
        ends[ops.TRANSLATE_Y] = 0, self.translate(height)
        ends[ops.ROTATE] = 0, self.rotate
        ends |= dict.fromkeys(ops.BLENDS, (0, self.blend))
        ends[ops.POSTERIZE] = self.bits
        ends[ops.SOLARIZE] = 255, 0
        first, last = np.array(list(ends.values())).T
        rising = np.linspace(first, last, self.bins, axis=1)
        rising[ops.POSTERIZE] = np.round(rising[ops.POSTERIZE])
        signs = np.ones((len(ops.NAMES), 1, 2))
        signs[[*ops.AFFINE, *ops.BLENDS], :, 1] = -1
        return jnp.asarray(signs * rising[..., None], jnp.float32)


def draw(
    key: Key[Array, ""],
    choices: Sequence[int],
    magnitudes: Float[Array, "n bins signs"],
) -> tuple[Int[Array, ""], Float[Array, ""]]:
    """Returns one of several operations and one of its magnitudes, all equally likely.

    Both are looked up in arrays: XLA would compute other numbers again for each pixel.
    """
    operation_key, bin_key, sign_key = jax.random.split(key, 3)
    operation = jax.random.choice(operation_key, jnp.array(choices))
    bin_ = jax.random.randint(bin_key, (), 0, magnitudes.shape[1])
    sign = jax.random.bernoulli(sign_key).astype(jnp.int32)
    return operation, magnitudes[operation, bin_, sign]
