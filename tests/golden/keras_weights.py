"""Networks, images and weights that Keras's golden values are computed from.

They are drawn from `RandomState`, whose streams NumPy guarantees never to change.
"""

import zlib

import numpy as np
from golden.digest import PROJECTIONS, digest
from numpy.typing import ArrayLike, NDArray

NUM_CLASSES = 10

# What keras.applications calls the networks.
KERAS_NAMES = {
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "resnet50": "ResNet50",
    "mobilenet": "MobileNet",
    "inception_v3": "InceptionV3",
    "xception": "Xception",
    "inception_resnet_v2": "InceptionResNetV2",
}

# Networks and image heights, chosen so that every kind of padding differs from SAME:
# ResNet50 halves 76 and 38, then odd sizes; MobileNet's stem uses SAME, which pads 64
# differently from 75. The last three have their smallest images.
CASES = (
    ("vgg16", 32),
    ("vgg19", 32),
    ("resnet50", 76),
    ("mobilenet", 64),
    ("mobilenet", 75),
    ("xception", 71),
    ("inception_v3", 75),
    ("inception_resnet_v2", 75),
)

# Standard deviation of BatchNorm's inputs, so small that epsilon, a tenth of the
# variance, matters; and the mean of gamma, so large that ReLU6 clips.
SCALES = {
    "vgg16": (1, 1),
    "vgg19": (1, 1),
    "resnet50": (0.01, 1),
    "mobilenet": (0.1, 1.3),
    "xception": (0.1, 1),
    "inception_v3": (0.1, 1),
    "inception_resnet_v2": (0.1, 1),
}


def images(size: int) -> NDArray[np.float32]:
    """Returns two square images."""
    values = np.random.RandomState(size).standard_normal((2, size, size, 3))
    return values.astype(np.float32)


def weight(
    network: str, layer: str, name: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Returns the Keras weight of that name, different in each layer and nontrivial."""
    random = np.random.RandomState(zlib.crc32(f"{layer}/{name}".encode()))
    values = random.standard_normal(shape).astype(np.float32)
    scale, gamma = SCALES[network]
    if name.endswith("kernel"):
        # He et al.; a depthwise kernel, (h, w, channels, 1), sees only one channel.
        inputs = np.prod(shape[:2] if shape[-1] == 1 else shape[:-1])
        return scale * np.float32(np.sqrt(2 / inputs)) * values
    if name == "gamma":
        return gamma + np.float32(0.1) * values
    if name == "moving_variance":
        return np.float32(scale**2) * np.exp(np.float32(0.3) * values)
    if name == "beta":
        return np.float32(0.1) * values
    return np.float32(0.1 * scale) * values


def short_digest(tensor: ArrayLike) -> NDArray[np.float32]:
    """Returns a digest without the sample, small enough to store for every layer."""
    return digest(tensor)[: 1 + PROJECTIONS]
