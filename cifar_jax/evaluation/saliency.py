"""Which parts of an image a prediction depends on."""

import dataclasses
import itertools

import numpy as np
import scipy.special
from jaxtyping import Float, UInt8

from cifar_jax.checks import check_type
from cifar_jax.data.dataset import check_images
from cifar_jax.data.views.crops import Center
from cifar_jax.evaluation.inference import Trained, predict_logits

# The patch's height and its steps, as parts of the image's height.
_PATCH, _STEP = 4, 8


def saliency_map(
    network: Trained, image: UInt8[np.ndarray, "h w 3"], label: int
) -> Float[np.ndarray, "h w"]:
    """Returns how much the probability of a class depends on each pixel.

    A patch of the image's mean color is moved over the image; where it is, the class's
    log-probability falls by the more, the more it depends on what is covered (Zeiler
    and Fergus, [Visualizing and Understanding Convolutional
    Networks](https://arxiv.org/abs/1311.2901), 2013, section 4.2). A pixel has the mean
    over all patches that cover it, which count the more, the nearer their centers are.
    Gradients were tried as well: in images this small, they fluctuate from pixel to
    pixel.

    The patch is a quarter of the image high and wide, and moves by half of that: of an
    image of 32x32, 81 copies are covered. The network sees only the central view of
    each, even if it averages over several to classify, as six views take six times as
    long.

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
    places = [_places(length) for length in image.shape[:2]]
    windows = list(itertools.product(*places))
    covered = np.repeat(image[None], 1 + len(windows), axis=0)
    for copy, (rows, columns) in zip(covered[1:], windows, strict=True):
        copy[_inside(rows), _inside(columns)] = image.mean(axis=(0, 1)).round()
    views = dataclasses.replace(network.preprocessing, views=Center())
    central = dataclasses.replace(network, preprocessing=views)
    # All at once: no copy is padding, and all images of a shape have as many.
    logits = predict_logits(central, covered, batch_size=len(covered))
    whole, *others = scipy.special.log_softmax(logits, axis=-1)[:, label]
    falls = (whole - np.array(others)).reshape([len(along) for along in places])
    by_row, by_column = map(_weights, places, image.shape[:2])
    fall = np.maximum(by_row.T @ falls @ by_column, 0)
    return fall / (fall.max() or 1)


def _places(length: int) -> list[tuple[int, int]]:
    """Returns the places of a patch along one side, parts of which may be outside."""
    patch, step = max(length // _PATCH, 1), max(length // _STEP, 1)
    return [(start, start + patch) for start in range(step - patch, length, step)]


def _inside(place: tuple[int, int]) -> slice:
    start, stop = place
    return slice(max(start, 0), stop)


def _weights(
    places: list[tuple[int, int]], length: int
) -> Float[np.ndarray, "places {length}"]:
    """Returns how much a patch at each place counts for each pixel along one side."""
    starts, stops = np.array(places).T[..., None]
    far = np.abs(np.arange(length) + 0.5 - (starts + stops) / 2)
    weights = np.maximum(1 - far / ((stops - starts) / 2), 0)
    return weights / weights.sum(axis=0)
