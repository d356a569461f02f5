"""Images, labels, parameters and settings that the golden values are computed from.

They are drawn from `RandomState`, whose streams NumPy guarantees never to change. The
images use integer arithmetic only, so rounding cannot differ between machines.
"""

import numpy as np
from numpy.typing import NDArray

STEPS = 5
BATCH_SIZE = 8

# With the tutorial's 0.1 the loss jumps to 54 because of the enlarged conv1 below.
LEARNING_RATE = 0.02
DECAY_FACTOR = 0.1
WEIGHT_DECAY = 0.004
# Small enough that within five steps the staircase drops and the ramp of the averages'
# decay, 2/11, 3/12, 4/13, ..., reaches its limit.
DECAY_STEPS = 2
EMA_DECAY = 0.3

BRIGHTNESS_DELTAS = np.linspace(-63, 60, BATCH_SIZE, dtype=np.float32)
CONTRAST_FACTORS = np.linspace(1.75, 0.2, BATCH_SIZE, dtype=np.float32)

# Layer: kernel shape, sigma, bias. As in the tutorial except for conv1: its sigma of
# 0.05 would leave LRN within 0.1% of the identity, and the test would hardly cover it.
LAYERS = {
    "conv1": ((5, 5, 3, 64), 0.2, 0.0),
    "conv2": ((5, 5, 64, 64), 0.05, 0.1),
    "local3": ((2304, 384), 0.04, 0.1),
    "local4": ((384, 192), 0.04, 0.1),
    "softmax_linear": ((192, 10), 1 / 192, 0.0),
}


def images() -> NDArray[np.uint8]:
    """Returns a batch for each step; the last image of each batch has one color."""
    random = np.random.RandomState(1)
    blocks = random.randint(0, 160, size=(STEPS, BATCH_SIZE, 8, 8, 3))
    slope = 2 * np.arange(32)[:, None, None]
    noise = random.randint(0, 32, size=(STEPS, BATCH_SIZE, 32, 32, 3))
    pictures = blocks.repeat(4, axis=2).repeat(4, axis=3) + slope + noise
    pictures[:, -1] = [200, 100, 7]
    return pictures.astype(np.uint8)


def labels() -> NDArray[np.int32]:
    """Returns the classes of `images`."""
    return np.random.RandomState(2).randint(
        10, size=(STEPS, BATCH_SIZE), dtype=np.int32
    )


def params() -> dict[str, dict[str, NDArray[np.float32]]]:
    """Returns the parameters of the tutorial's network before the first step."""
    random = np.random.RandomState(3)
    return {
        layer: {
            "kernel": (sigma * random.standard_normal(shape)).astype(np.float32),
            "bias": np.full(shape[-1], bias, np.float32),
        }
        for layer, (shape, sigma, bias) in LAYERS.items()
    }


def activations() -> NDArray[np.float32]:
    """Returns values that LRN halves, in a grid that SAME pads unevenly."""
    values = 40 * np.random.RandomState(4).standard_normal((2, 6, 4, 16))
    return values.astype(np.float32)
