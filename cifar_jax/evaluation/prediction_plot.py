"""Plots predictions: each picture with what the network sees in it, and where."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifar_jax.console import to_one_line

_COLOR = "#0072b2"


class Prediction(NamedTuple):
    """What to draw for a picture.

    Attributes:
        name: name of its file.
        image: the picture as the network sees it.
        probabilities: probabilities by class name, most probable first.
        saliency: how much the first class depends on each pixel, from 0 to 1.
    """

    name: str
    image: UInt8[np.ndarray, "h w 3"]
    probabilities: dict[str, float]
    saliency: Float[np.ndarray, "h w"]


def draw(predictions: Sequence[Prediction], top: int) -> Figure:
    """Draws a row for each picture: the picture, a saliency map, and bars for classes.

    Args:
        predictions: one or more predictions.
        top: number of classes to draw bars for.
    """
    figure = Figure(figsize=(8, 0.5 + 2.2 * len(predictions)), layout="constrained")
    figure.supxlabel(
        "Middle: where covering the picture makes the class less probable, yellow most",
        size=9,
    )
    rows = figure.subplots(len(predictions), 3, squeeze=False, width_ratios=(1, 1, 1.6))
    for prediction, (left, middle, right) in zip(predictions, rows, strict=True):
        left.imshow(prediction.image)
        left.set_title(_short(to_one_line(prediction.name)), size=9, parse_math=False)
        _draw_saliency(middle, prediction)
        _draw_bars(right, prediction.probabilities, top)
        for axis in (left, middle):
            axis.axis("off")
    return figure


def _draw_saliency(axis: Axes, prediction: Prediction) -> None:
    """Draws the map over the picture in gray, to show what it marks."""
    axis.imshow(prediction.image.mean(axis=-1), cmap="gray", vmin=0, vmax=255)
    axis.imshow(prediction.saliency, cmap="inferno", alpha=0.65, vmin=0, vmax=1)
    likeliest = next(iter(prediction.probabilities))
    axis.set_title(
        f"what {_short(to_one_line(likeliest))} depends on", size=9, parse_math=False
    )


def _draw_bars(axis: Axes, probabilities: dict[str, float], top: int) -> None:
    shown = list(probabilities.items())[:top]
    bars = axis.barh(range(len(shown)), [p for _, p in shown], color=_COLOR)
    axis.bar_label(bars, [f"{p:.1%}" for _, p in shown], padding=3, size=8)
    axis.set(xlim=(0, 1.18), xticks=[], ylim=(max(top, 3) - 0.4, -0.6))
    names = [_short(to_one_line(name)) for name, _ in shown]
    axis.set_yticks(range(len(shown)), names, size=8, parse_math=False)
    axis.tick_params(length=0)
    axis.spines[["top", "right", "bottom"]].set_visible(False)


def _short(name: str) -> str:
    """Returns the end of a long name, where paths differ."""
    return name if len(name) <= 24 else f"...{name[-21:]}"
