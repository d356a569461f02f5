"""Which parts of an image a prediction depends on."""

import itertools

import numpy as np
import scipy.special
from jaxtyping import Float, UInt8

from cifar_jax.checks import check_type
from cifar_jax.data.dataset import check_images
from cifar_jax.evaluation.inference import Trained, predict_logits

# The patch's height and its steps, as parts of the image's height.
_PATCH, _STEP = 4, 16


def saliency_map(
    network: Trained, image: UInt8[np.ndarray, "h w 3"], label: int
) -> Float[np.ndarray, "h w"]:
    """Returns how much the probability of a class depends on each pixel.

    A patch of the image's mean color is moved over the image; where it is, the class's
    log-probability falls by the more, the more it depends on what is covered (Zeiler
    and Fergus, [Visualizing and Understanding Convolutional
    Networks](https://arxiv.org/abs/1311.2901), 2013, section 4.2). A pixel has the mean
    over all patches that cover it. Gradients were tried as well: in images this small,
    they fluctuate from pixel to pixel.

    Args:
        network: a trained network.
        image: bytes.
        label: number of the class.

    Returns:
        Values from 0, where the class depends on nothing or speaks against what is
        there, to 1, unless all are 0.

    Raises:
        UserError: the image cannot be used.
    """
    check_type(network, "network", Trained)
    check_images(image[None], "image", network.image_shape)
    height, width, _ = image.shape
    windows = list(itertools.product(_windows(height), _windows(width)))
    covered = np.repeat(image[None], 1 + len(windows), axis=0)
    for copy, (rows, columns) in zip(covered[1:], windows, strict=True):
        copy[rows, columns] = image.mean(axis=(0, 1)).round()
    logits = predict_logits(network, covered)
    whole, *others = scipy.special.log_softmax(logits, axis=-1)[:, label]
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for (rows, columns), other in zip(windows, others, strict=True):
        total[rows, columns] += whole - other
        count[rows, columns] += 1
    fall = np.maximum(total / count, 0)
    return fall / (fall.max() or 1)


def _windows(length: int) -> list[slice]:
    """Returns the places of a patch along one side, parts of which may be outside."""
    patch, step = max(length // _PATCH, 1), max(length // _STEP, 1)
    starts = range(step - patch, length, step)
    return [slice(max(start, 0), start + patch) for start in starts]
