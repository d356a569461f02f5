"""Distortions of the training images, by name.

Those in DISTORTIONS change one image; those in MIXTURES change a batch and its targets.
All are pure functions, and the random draws of one do not depend on the others.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import jax
from jaxtyping import Array, Key

from cifar_jax.data.distortions.base import Distortion, Mixture
from cifar_jax.data.distortions.geometry import (
    AlternatingFlip,
    CenterCrop,
    Crop,
    Flip,
    Translate,
)
from cifar_jax.data.distortions.mixtures import Cutmix, Mixup
from cifar_jax.data.distortions.values import Brightness, Contrast, Cutout
from cifar_jax.errors import UserError
from cifar_jax.registry import Registry, names, resolve_all

DISTORTIONS: Registry[Distortion] = Registry(
    Distortion,
    {
        "crop": Crop,
        "center_crop": CenterCrop,
        "translate": Translate,
        "flip": Flip,
        "alternating_flip": AlternatingFlip,
        "cutout": Cutout,
        "brightness": Brightness,
        "contrast": Contrast,
    },
)
MIXTURES: Registry[Mixture] = Registry(
    Mixture,
    {
        "mixup": Mixup,
        "cutmix": Cutmix,
    },
)

# The tutorial's four distortions once used the parts of a split key.
_STREAMS = {"Crop": 0, "Flip": 1, "Brightness": 2, "Contrast": 3}


def keys(key: Key[Array, ""], steps: Sequence[object]) -> list[Key[Array, ""]]:
    """Returns a key for each distortion, which depends on its class, not its position.

    So leaving one out does not change the draws of the others. Repeats of a distortion
    get different keys.
    """
    names = [type(step).__name__ for step in steps]
    found = []
    for place, name in enumerate(names):
        stream = _STREAMS.get(name, zlib.crc32(name.encode()))
        own = jax.random.fold_in(key, stream)
        repeats = names[:place].count(name)
        found.append(jax.random.fold_in(own, repeats) if repeats else own)
    return found


def parse(text: str) -> tuple[tuple[Distortion, ...], tuple[Mixture, ...]]:
    """Parses a list of distortions of single images, followed by mixtures.

    Raises:
        UserError: the text is not such a list, or a mixture comes before a distortion.
    """
    registry: Registry[Any] = Registry(Distortion | Mixture, DISTORTIONS | MIXTURES)
    steps = resolve_all(text, registry, "distortions")
    mixes = [name in MIXTURES for name in names(text, "distortions")]
    count = mixes.count(False)
    if any(mixes[:count]):
        raise UserError(
            f"--distortions={text}: {' and '.join(MIXTURES)} mix whole "
            "batches, so they must come last"
        )
    return steps[:count], steps[count:]
