"""Inputs for the networks in golden/networks, the same for JAX and PyTorch.

Variables are drawn by their names, so neither framework's initialization matters.
"""

import zlib

import numpy as np

BATCH_SIZE = 4


def images(size: int) -> np.ndarray:
    """Returns a batch of random images, channels last."""
    random = np.random.RandomState(0)
    return random.standard_normal((BATCH_SIZE, size, size, 3))


def labels() -> np.ndarray:
    """Returns a label from 0 to 9 for each image."""
    return np.arange(BATCH_SIZE)


def variable(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the values of a parameter or running average.

    Args:
        name: its path, such as `conv1_bn/scale`.
        shape: its shape in Flax.
    """
    random = np.random.RandomState(zlib.crc32(name.encode()))
    values = random.standard_normal(shape)
    match name.rsplit("/", 1)[-1]:
        case "kernel":
            inputs = np.prod(shape[:-1])
            return values * np.sqrt(2 / inputs)
        case "scale":
            return 1 + 0.1 * values
        case "var":
            return np.exp(0.1 * values)
    return 0.1 * values
