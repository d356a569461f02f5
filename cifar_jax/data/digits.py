"""The stand-in for a machine with neither CIFAR-10 nor a network connection.

It has scikit-learn's 1,797 handwritten digits of 8x8 pixels. Enlarged to CIFAR's shape,
they exercise every line of this code base in seconds, but the results say nothing about
CIFAR-10.

They are the test set of E. Alpaydin and C. Kaynak, [Optical Recognition of Handwritten
Digits](https://doi.org/10.24432/C50P49), 1998, UCI Machine Learning Repository,
licensed under CC BY 4.0. `digits.npz` stores them in the order of the split.
"""

import os
import pathlib

import numpy as np
from PIL import Image

from cifar_jax.data.dataset import Dataset
from cifar_jax.data.split import Split

NOTICE = (
    "The data are scikit-learn's 8x8 handwritten digits, a stand-in: every command\n"
    "works, but the results say nothing about CIFAR-10. A run started on them stays\n"
    "on them; for real data, use --dataset=cifar10 and another --train_dir."
)
_TEST_SIZE = 300
_MAX_INK = 16  # each pixel counts the inked pixels of a 4x4 block
FILE = pathlib.Path(__file__).with_name("digits.npz")


def load(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Returns the digits as 1,497 training and 300 test images.

    The split is stratified and always the same, whatever the run's seed.

    Args:
        data_dir: unused; the digits are bundled with this package.
    """
    with np.load(FILE) as file:
        images = np.stack([_like_cifar(picture) for picture in file["images"]])
        labels = file["labels"].astype(np.int32)
    train, test = (
        Split(images[part], labels[part])
        for part in (slice(-_TEST_SIZE), slice(-_TEST_SIZE, None))
    )
    return Dataset.create(
        "digits",
        train,
        test,
        class_names=tuple(str(digit) for digit in range(10)),
        source="scikit-learn's 8x8 digits, resized to 32x32",
        notice=NOTICE,
    )


def _like_cifar(picture: np.ndarray) -> np.ndarray:
    """Converts an 8x8 image with values 0..16 to uint8 [32, 32, 3] with 0..255."""
    gray = Image.fromarray(np.rint(picture * (255 / _MAX_INK)).astype(np.uint8))
    resized = np.asarray(gray.resize((32, 32), Image.Resampling.BILINEAR))
    return np.repeat(resized[..., None], 3, axis=-1)
