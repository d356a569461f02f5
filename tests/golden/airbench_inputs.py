"""Batches and parameters that the golden values of Airbench are computed from."""

import numpy as np
from numpy.typing import NDArray

STEPS, BATCH_SIZE = 10, 32
# Of the learning rates; with the original ones, differences of rounding grow too fast.
FACTOR = 0.01
WIDTHS = (8, 16, 16)
# How many images of a batch are chosen, and that every other batch is learned from.
KEPT, EVERY = 16, 2

# As in Flax: height, width, inputs, outputs.
KERNELS = {
    "whiten": (2, 2, 3, 24),
    "group1_conv1": (3, 3, 24, 8),
    "group1_conv2": (3, 3, 8, 8),
    "group2_conv1": (3, 3, 8, 16),
    "group2_conv2": (3, 3, 16, 16),
    "group3_conv1": (3, 3, 16, 16),
    "group3_conv2": (3, 3, 16, 16),
    "predictions": (16, 10),
}


def images() -> NDArray[np.uint8]:
    """Returns a batch for each step, of one brightness for each class and noise."""
    random = np.random.RandomState(1)
    noise = random.randint(0, 160, (STEPS, BATCH_SIZE, 32, 32, 3))
    return (noise + 9 * labels()[..., None, None, None]).astype(np.uint8)


def labels() -> NDArray[np.int32]:
    """Returns the classes of `images`."""
    return np.random.RandomState(2).randint(
        10, size=(STEPS, BATCH_SIZE), dtype=np.int32
    )


def params() -> dict[str, dict[str, NDArray[np.float32]]]:
    """Returns the parameters before the first step, of PyTorch's usual sizes."""
    random = np.random.RandomState(3)
    found: dict[str, dict[str, NDArray[np.float32]]] = {}
    for layer, shape in KERNELS.items():
        bound = np.prod(shape[:-1]) ** -0.5
        kernel = random.uniform(-bound, bound, shape)
        found[layer] = {"kernel": kernel.astype(np.float32)}
        if "_conv" in layer:
            norm = {"bias": np.zeros(shape[-1], np.float32)}
            found[layer.replace("conv", "norm")] = norm
    found["whiten"]["bias"] = np.zeros(24, np.float32)
    return found
