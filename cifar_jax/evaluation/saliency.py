"""Which parts of an image a prediction depends on."""

import dataclasses
import itertools

import numpy as np
import scipy.special
from jaxtyping import Float, UInt8

from cifar_jax.checks import check_type
from cifar_jax.data.split import check_images
from cifar_jax.data.views.crops import Center
from cifar_jax.evaluation.inference import Trained, predict_logits

# The patch is this fraction of the image, and moves by this fraction: 1/4 and 1/8.
_PATCH, _STEP = 4, 8


def saliency_map(
    network: Trained, image: UInt8[np.ndarray, "h w 3"], label: int
) -> Float[np.ndarray, "h w"]:
    """Returns how much the probability of a class depends on each pixel.

    A patch of the image's mean color is moved over the image. The more the class
    depends on the covered pixels, the more its log-probability falls (Zeiler and
    Fergus, [Visualizing and Understanding Convolutional
    Networks](https://arxiv.org/abs/1311.2901), 2013, section 4.2). The value of a pixel
    is a mean over all patches that cover it, weighted toward those with nearby centers.
    Gradients were tried as well, but in images this small, they fluctuate from pixel to
    pixel.

    The patch is a quarter as high and wide as the image, and moves by half its size, so
    a 32x32 image requires 81 covered copies. The network sees only the central view of
    each, even if it averages over several to classify, since six views would take six
    times as long.

    Args:
        network: a trained network.
        image: bytes.
        label: number of the class.

    Returns:
        Values from 0, for pixels that do not matter or speak against the class, to 1,
        unless all are 0.

    Raises:
        UserError: the image cannot be used.
    """
    check_type(network, "network", Trained)
    check_images(image[None], "image", network.image_shape)
    places = [_places(length) for length in image.shape[:2]]
    windows = list(itertools.product(*places))
    covered = np.repeat(image[None], 1 + len(windows), axis=0)
    for copy, (rows, columns) in zip(covered[1:], windows, strict=True):
        copy[_inside(rows), _inside(columns)] = image.mean(axis=(0, 1)).round()
    views = dataclasses.replace(network.preprocessing, views=Center())
    central = dataclasses.replace(network, preprocessing=views)
    # In one batch: it needs no padding, and its size depends only on the image shape.
    logits = predict_logits(central, covered, batch_size=len(covered))
    whole, *others = scipy.special.log_softmax(logits, axis=-1)[:, label]
    falls = (whole - np.array(others)).reshape([len(along) for along in places])
    by_row, by_column = map(_weights, places, image.shape[:2])
    fall = np.maximum(by_row.T @ falls @ by_column, 0)
    return fall / (fall.max() or 1)


def _places(length: int) -> list[tuple[int, int]]:
    """Returns the places of a patch along one side, which may extend outside."""
    patch, step = max(length // _PATCH, 1), max(length // _STEP, 1)
    return [(start, start + patch) for start in range(step - patch, length, step)]


def _inside(place: tuple[int, int]) -> slice:
    start, stop = place
    return slice(max(start, 0), stop)


def _weights(
    places: list[tuple[int, int]], length: int
) -> Float[np.ndarray, "places {length}"]:
    """Returns the weight of each patch place for each pixel along one side."""
    starts, stops = np.array(places).T[..., None]
    far = np.abs(np.arange(length) + 0.5 - (starts + stops) / 2)
    weights = np.maximum(1 - far / ((stops - starts) / 2), 0)
    return weights / weights.sum(axis=0)
