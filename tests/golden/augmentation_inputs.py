"""What the golden values of the augmentations are computed from."""

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 20, 24
# Of the magnitudes 0 to 30 of TrivialAugment, and 0 to 9 of AugMix. At 15, torchvision
# translates by 15 pixels: it truncates its 32 / 2, which its rounding makes 15.999999.
BINS = (0, 3, 10, 14, 20, 30)
AUGMIX_BINS = (1, 2, 9)

FACTORS = (0.0, 0.6, 1.0, 1.37)
HUES = (-0.5, -0.1, 0.0, 0.03, 0.3)
# Angle in degrees, translation (x, y), scale, and shear (x, y) in degrees.
AFFINE = (
    (30.0, (0.0, 0.0), 1.0, (0.0, 0.0)),
    (-17.0, (3.0, -2.0), 1.3, (0.0, 0.0)),
    (75.0, (-5.0, 1.0), 0.7, (20.0, 0.0)),
    (10.0, (0.0, 4.0), 0.9, (-12.0, 25.0)),
)
ANGLES = (-30.0, 12.5, 45.0, 90.0, 180.0)
# Top, left, height and width of a rectangle, and the size it is resized to.
CROPS = ((0, 0, 20, 24, 16), (3, 5, 7, 11, 24), (2, 1, 17, 9, 9), (19, 23, 1, 1, 4))

RECTANGLES = 4000
ERASING = ((0.02, 0.33), (0.3, 3.3))
CROPPING = ((0.08, 1.0), (3 / 4, 4 / 3))


def images() -> NDArray[np.uint8]:
    """Returns a smooth image of high contrast and one of low contrast.

    A channel of the second has only one value.
    """
    random = np.random.RandomState(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH] / WIDTH
    smooth = np.zeros((HEIGHT, WIDTH, 3))
    for channel in range(3):
        for _ in range(4):
            a, b, phase = random.uniform(-9, 9, 3)
            smooth[..., channel] += np.cos(a * x + b * y + phase)
    bright = 128 + 45 * smooth + random.normal(0, 6, smooth.shape)
    dull = 90 + 12 * smooth
    dull[..., 1] = 140
    return np.clip(np.round([bright, dull]), 0, 255).astype(np.uint8)
