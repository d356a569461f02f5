"""What the page shows for a picture: its classes and each convolution's maps."""

import base64
import io
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.colors import Normalize
from PIL import Image

from cifar_jax.data.folder.pictures import as_picture
from cifar_jax.evaluation.feature_maps import (
    activations,
    convolutions,
    limits,
    mosaic,
)
from cifar_jax.evaluation.inference import Trained, predict_logits
from cifar_jax.metrics import scores

_MOST_CLASSES = 10
# ImageNet networks have up to 244 convolutions, whose maps would take seconds to draw
# and send, and which nobody would look through.
_MOST_LAYERS = 24
# The page shows a layer's first maps, as many as fit side by side in this many pixels.
_MOST_COLUMNS, _MOST_PIXELS = 8, 512


def answer(network: Trained, picture: UInt8[np.ndarray, "h w 3"]) -> dict[str, Any]:
    """Returns what the page shows for a picture, for JSON; pictures are data URLs.

    The classes are the most likely ones, in order. If there are many convolutions,
    evenly spaced ones are shown, including the first and the last.
    """
    # Not by `classify`, which always computes eight images.
    logits = predict_logits(network, picture[None], batch_size=1)
    probabilities = scores.probabilities(logits)[0]
    order = np.argsort(-probabilities, kind="stable")[:_MOST_CLASSES]
    layers = activations(network, picture[None])
    given = layers["input"][0]
    maps = convolutions(layers)
    shown = np.linspace(0, len(maps) - 1, min(len(maps), _MOST_LAYERS)).round()
    names = [list(maps)[int(i)] for i in shown]
    return {
        "picture": {"url": _url(picture), "size": _size(picture)},
        "input": {"url": _url(as_picture(given)), "size": _size(given)},
        "classes": [
            {"name": network.class_names[i], "probability": float(probabilities[i])}
            for i in order
        ],
        "layers": [_layer(name, maps[name][0]) for name in names],
        "convolutions": len(maps),
    }


def _layer(name: str, maps: Float[np.ndarray, "h w k"]) -> dict[str, Any]:
    columns = min(_MOST_COLUMNS, max(1, _MOST_PIXELS // max(maps.shape[:2])))
    shown = maps[..., : columns**2]
    scale = limits(maps)
    normalize = Normalize(scale["vmin"], scale["vmax"])
    colors = matplotlib.colormaps["viridis"](normalize(mosaic(shown)), bytes=True)
    return {
        "name": name,
        "url": _url(colors),
        "size": _size(maps),
        "shown": shown.shape[-1],
        "maps": maps.shape[-1],
        "low": scale["vmin"],
        "high": scale["vmax"],
    }


def _size(image: np.ndarray) -> str:
    return "{}×{}".format(*image.shape[:2])  # noqa: RUF001


def _url(image: UInt8[np.ndarray, "h w c"]) -> str:
    """Returns a picture, which may have a transparency channel, as a data URL."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
