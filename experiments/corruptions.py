"""Ways to spoil images, each at five strengths.

They follow CIFAR-10-C in idea (Hendrycks and Dietterich, Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations, 2019), not in every number: the
strengths here are physical, and the first is a little.
"""

import dataclasses
import io
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter

Images = UInt8[np.ndarray, "n h w 3"]
GREY = 127


def noise(images: Images, sigma: float, random: np.random.Generator) -> Images:
    """Gaussian noise, of its own at each pixel and channel.

    Args:
        images: to be spoilt.
        sigma: standard deviation, of 255.
        random: draws the noise; in the same state it draws the same pattern for all
            sigma, only larger.
    """
    pattern = random.standard_normal(images.shape, np.float32)
    return _to_bytes(images + np.float32(sigma) * pattern)


def blur(images: Images, radius: float, random: np.random.Generator) -> Images:
    """Gaussian blur by Pillow, border pixels repeated outwards.

    Args:
        images: to be spoilt.
        radius: standard deviation of the kernel, in pixels.
        random: not used.
    """
    del random
    spoil = ImageFilter.GaussianBlur(radius)
    return np.stack([np.asarray(Image.fromarray(i).filter(spoil)) for i in images])


def contrast(images: Images, factor: float, random: np.random.Generator) -> Images:
    """Less contrast: values come nearer to the mean of their channel in the image.

    Args:
        images: to be spoilt.
        factor: of the distances to the mean; 1 leaves them.
        random: not used.
    """
    del random
    mean = images.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    return _to_bytes((images - mean) * np.float32(factor) + mean)


def jpeg(images: Images, quality: float, random: np.random.Generator) -> Images:
    """Compression by JPEG with colours at half the resolution, and back.

    Args:
        images: to be spoilt.
        quality: libjpeg's, from 1 to 95.
        random: not used.
    """
    del random

    def through_jpeg(image: UInt8[np.ndarray, "h w 3"]) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(image).save(
            file, "JPEG", quality=int(quality), subsampling="4:2:0"
        )
        return np.asarray(Image.open(file))

    return np.stack([through_jpeg(image) for image in images])


def occlusion(images: Images, side: float, random: np.random.Generator) -> Images:
    """A grey square that lies anywhere in the image, all of it inside.

    Args:
        images: to be spoilt.
        side: of the square, in pixels.
        random: says where; in the same state about the same place for all sides.
    """
    places = random.random((len(images), 2))

    def covered(place: np.ndarray, size: int) -> np.ndarray:
        first = np.floor(place * (size - side + 1))[:, None]
        return (first <= np.arange(size)) & (np.arange(size) < first + side)

    rows, columns = map(covered, places.T, images.shape[1:3])
    square = rows[:, :, None, None] & columns[:, None, :, None]
    return np.where(square, np.uint8(GREY), images)


@dataclasses.dataclass(frozen=True)
class Corruption:
    """A way to spoil images.

    Attributes:
        apply: spoils them: a pure function of images, a strength and a generator.
        strengths: five, from little to much.
        parameter: what the strengths are, with their unit.
    """

    apply: Callable[[Images, float, np.random.Generator], Images]
    strengths: tuple[float, ...]
    parameter: str

    def at(self, images: Images, level: int, seed: int = 0) -> Images:
        """The images at a strength from 1 to 5, or as they are at 0.

        Of one seed the noise and the places of squares are the same at all strengths,
        and an image's do not depend on how many come after it.
        """
        if level == 0:
            return images
        random = np.random.default_rng(seed)
        return self.apply(images, self.strengths[level - 1], random)


CORRUPTIONS = {
    "noise": Corruption(noise, (5, 10, 20, 30, 40), "sigma of 255"),
    "blur": Corruption(blur, (0.4, 0.6, 0.8, 1.0, 1.2), "radius in pixels"),
    "contrast": Corruption(contrast, (0.8, 0.6, 0.4, 0.25, 0.15), "factor"),
    "jpeg": Corruption(jpeg, (80, 60, 40, 20, 10), "quality"),
    "occlusion": Corruption(occlusion, (4, 8, 12, 16, 20), "side in pixels"),
}


def _to_bytes(values: np.ndarray) -> Images:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
