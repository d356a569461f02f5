"""Distortions of the training images, by name.

Those in DISTORTIONS change one image; those in MIXTURES change a batch and its targets.
All are pure functions, and the random draws of one do not depend on the others.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import jax
from jaxtyping import Array, Key

from cifar_jax.data.distortions.affine import Affine, Rotate
from cifar_jax.data.distortions.augmix import AugMix
from cifar_jax.data.distortions.base import Distortion, Mixture
from cifar_jax.data.distortions.chance import Sometimes, SometimesMixed, WithProb
from cifar_jax.data.distortions.colors import ColorJitter, Grayscale
from cifar_jax.data.distortions.geometry import (
    AlternatingFlip,
    CenterCrop,
    Crop,
    Flip,
    Translate,
)
from cifar_jax.data.distortions.mixtures import Choice, Cutmix, Mixup
from cifar_jax.data.distortions.policies import (
    AutoAugment,
    RandAugment,
    TrivialAugment,
)
from cifar_jax.data.distortions.rectangles import RandomErasing, RandomResizedCrop
from cifar_jax.data.distortions.values import Brightness, Contrast, Cutout
from cifar_jax.errors import UserError
from cifar_jax.registry import Registry, elements, names, resolve

DISTORTIONS: Registry[Distortion] = Registry(
    Distortion,
    {
        "crop": Crop,
        "center_crop": CenterCrop,
        "random_resized_crop": RandomResizedCrop,
        "translate": Translate,
        "flip": Flip,
        "alternating_flip": AlternatingFlip,
        "rotate": Rotate,
        "affine": Affine,
        "cutout": Cutout,
        "random_erasing": RandomErasing,
        "brightness": Brightness,
        "contrast": Contrast,
        "color_jitter": ColorJitter,
        "grayscale": Grayscale,
        "auto_augment": AutoAugment,
        "rand_augment": RandAugment,
        "trivial_augment": TrivialAugment,
        "augmix": AugMix,
    },
)
MIXTURES: Registry[Mixture] = Registry(
    Mixture,
    {
        "mixup": Mixup,
        "cutmix": Cutmix,
        "choice": Choice,
    },
)
_MIXTURES = WithProb((MIXTURES, SometimesMixed))
# All of them, with the option that each has.
CHOICES = WithProb((DISTORTIONS, Sometimes), (MIXTURES, SometimesMixed))

# The tutorial's four distortions once used the parts of a split key.
_STREAMS = {"Crop": 0, "Flip": 1, "Brightness": 2, "Contrast": 3}


def keys(key: Key[Array, ""], steps: Sequence[object]) -> list[Key[Array, ""]]:
    """Returns a key for each distortion, which depends on its class, not its position.

    So leaving one out does not change the draws of the others. Repeats of a distortion
    get different keys.
    """
    names = [_class_name(step) for step in steps]
    found = []
    for place, name in enumerate(names):
        stream = _STREAMS.get(name, zlib.crc32(name.encode()))
        own = jax.random.fold_in(key, stream)
        repeats = names[:place].count(name)
        found.append(jax.random.fold_in(own, repeats) if repeats else own)
    return found


def _class_name(step: object) -> str:
    if isinstance(step, Sometimes | SometimesMixed):
        return _class_name(step.step)
    return type(step).__name__


def parse(text: str) -> tuple[tuple[Distortion, ...], tuple[Mixture, ...]]:
    """Parses a list of distortions of single images, followed by mixtures.

    Raises:
        UserError: the text is not such a list, or a mixture comes before a distortion.
    """
    mixes = [name in MIXTURES for name in names(text, "distortions")]
    steps: list[Any] = []
    for element, mix in zip(elements(text, "distortions"), mixes, strict=True):
        # What a mixture chooses from are mixtures.
        choices = _MIXTURES if mix else CHOICES
        registry: Registry[Any] = Registry(Distortion | Mixture, choices)
        steps.append(resolve(element, registry, "distortions"))
    count = mixes.count(False)
    if any(mixes[:count]):
        raise UserError(
            f"--distortions={text}: {', '.join(MIXTURES)} mix whole "
            "batches, so they must come last"
        )
    return tuple(steps[:count]), tuple(steps[count:])
