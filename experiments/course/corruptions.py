"""Image corruptions, each at five strengths.

They follow the idea of CIFAR-10-C (Hendrycks and Dietterich, Benchmarking Neural
Network Robustness to Common Corruptions and Perturbations, 2019), but not its values:
the strengths here are physical quantities, and the first one is mild.
"""

import dataclasses
import io
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter

Images = UInt8[np.ndarray, "n h w 3"]
GRAY = 127


def noise(images: Images, sigma: float, random: np.random.Generator) -> Images:
    """Adds Gaussian noise, independent for each pixel and channel.

    Args:
        images: Images to corrupt.
        sigma: Standard deviation, on a scale from 0 to 255.
        random: Generator for the noise; from the same state, it draws the same pattern
            for every sigma, scaled.
    """
    pattern = random.standard_normal(images.shape, np.float32)
    return _to_bytes(images + np.float32(sigma) * pattern)


def blur(images: Images, radius: float, random: np.random.Generator) -> Images:
    """Applies Pillow's Gaussian blur, which extends images by their border pixels.

    Args:
        images: Images to corrupt.
        radius: Standard deviation of the kernel, in pixels.
        random: Unused.
    """
    del random
    gaussian = ImageFilter.GaussianBlur(radius)
    return np.stack([np.asarray(Image.fromarray(i).filter(gaussian)) for i in images])


def contrast(images: Images, factor: float, random: np.random.Generator) -> Images:
    """Reduces contrast by moving values toward their channel's mean in the image.

    Args:
        images: Images to corrupt.
        factor: Factor for distances from the mean; 1 leaves images unchanged.
        random: Unused.
    """
    del random
    mean = images.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    return _to_bytes((images - mean) * np.float32(factor) + mean)


def jpeg(images: Images, quality: float, random: np.random.Generator) -> Images:
    """Encodes images as JPEG, with color at half resolution, and decodes them.

    Args:
        images: Images to corrupt.
        quality: libjpeg quality, from 1 to 95.
        random: Unused.
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
    """Covers a random part of each image with a gray square that lies fully inside.

    Args:
        images: Images to corrupt.
        side: Side of the square, in pixels.
        random: Generator for the position; from the same state, it draws about the same
            position for every side.
    """
    positions = random.random((len(images), 2))

    def covered(position: np.ndarray, size: int) -> np.ndarray:
        first = np.floor(position * (size - side + 1))[:, None]
        return (first <= np.arange(size)) & (np.arange(size) < first + side)

    rows, columns = map(covered, positions.T, images.shape[1:3])
    square = rows[:, :, None, None] & columns[:, None, :, None]
    return np.where(square, np.uint8(GRAY), images)


def shift(images: Images, distance: float, random: np.random.Generator) -> Images:
    """Shifts each image up, down, left or right, and repeats its border pixels.

    Args:
        images: Images to corrupt.
        distance: How far to shift, in whole pixels.
        random: Generator for the directions; from the same state, it draws the same
            ones for every distance.
    """
    reach = int(distance)
    height, width = images.shape[1:3]
    framed = np.pad(images, [(0, 0), *2 * [(reach, reach)], (0, 0)], mode="edge")
    starts = reach + reach * np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])
    chosen = starts[random.integers(4, size=len(images))]
    return np.stack(
        [
            image[top : top + height, left : left + width]
            for image, (top, left) in zip(framed, chosen, strict=True)
        ]
    )


@dataclasses.dataclass(frozen=True)
class Corruption:
    """A type of image corruption.

    Attributes:
        apply: Pure function of images, a strength and a generator.
        strengths: Five strengths, in order of increasing severity.
        parameter: Name of the strength, with its unit.
    """

    apply: Callable[[Images, float, np.random.Generator], Images]
    strengths: tuple[float, ...]
    parameter: str

    def at(self, images: Images, level: int, seed: int = 0) -> Images:
        """Returns the images corrupted at a level from 1 to 5, or unchanged at 0.

        With the same seed, the noise and the positions of squares are the same at all
        levels. Those of an image do not depend on how many images follow it.
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
    "shift": Corruption(shift, (1, 2, 4, 6, 8), "distance in pixels"),
}


def _to_bytes(values: np.ndarray) -> Images:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
