"""The activations of a network's layers, as arrays and as mosaics of feature maps."""

import jax
import numpy as np
from jaxtyping import Float, UInt8

from cifar_jax.devices.cpu import compiler_options
from cifar_jax.evaluation import forward
from cifar_jax.evaluation.inference import Trained

Layers = dict[str, Float[np.ndarray, "n ..."]]


def activations(network: Trained, images: UInt8[np.ndarray, "n h w c"]) -> Layers:
    """Returns the input and each layer's activations in evaluation mode, in order.

    If evaluation uses several views of an image, only the first, central one is used.
    """
    function = jax.jit(
        forward.layers,
        static_argnames=("model", "preprocessing"),
        compiler_options=compiler_options(),
    )
    layers = function(
        network.variables,
        images,
        network.statistics,
        model=network.model,
        preprocessing=network.preprocessing,
    )
    layers.pop(forward.PENULTIMATE, None)
    return {name: np.asarray(values) for name, values in layers.items()}


def convolutions(layers: Layers) -> Layers:
    """Returns the layers whose activations are feature maps."""
    return {k: v for k, v in layers.items() if v.ndim == 4 and k != "input"}


def mosaic(
    maps: Float[np.ndarray, "h w *c k"], columns: int | None = None
) -> Float[np.ndarray, "H W *c"]:
    """Arranges maps side by side, with NaN between them.

    Args:
        maps: one or more maps.
        columns: number of maps per row; None for a near-square grid.
    """
    zoom = -(-24 // len(maps))  # keeps a gap of one pixel thin next to small maps
    tiles = np.moveaxis(maps, -1, 0).repeat(zoom, axis=1).repeat(zoom, axis=2)
    columns = columns or int(np.ceil(np.sqrt(len(tiles))))
    rows = -(-len(tiles) // columns)
    count, height, width, *channels = tiles.shape
    padded = np.full((rows * columns, height + 1, width + 1, *channels), np.nan)
    padded[:count, :height, :width] = tiles
    grid = padded.reshape(rows, columns, *padded.shape[1:]).swapaxes(1, 2)
    return grid.reshape(rows * (height + 1), columns * (width + 1), *channels)[:-1, :-1]


def limits(values: np.ndarray) -> dict[str, float]:
    """Returns color limits that include zero and clip one value in 200."""
    low, high = np.percentile(values, [0.5, 99.5])
    return {"vmin": min(0.0, float(low)), "vmax": max(float(high), 1e-6)}
