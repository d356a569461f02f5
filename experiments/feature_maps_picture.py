"""Draws the figures of `experiments.feature_maps`."""

import itertools
import math
import pathlib
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifar_jax.data.pictures import as_picture
from cifar_jax.evaluation.feature_maps import Layers, convolutions, limits, mosaic
from experiments import output
from experiments.corruptions import Images

# Number of layers whose maps are shown under noise, and of maps per layer.
NOISY_LAYERS, NOISY_MAPS = 3, 16
MOST_COLUMNS = 5


def show(axis: Axes, image: np.ndarray, title: str, **style: Any) -> Any:
    """Draws an image without axes."""
    axis.set_title(title, fontsize=10)
    axis.axis("off")
    return axis.imshow(image, interpolation="nearest", **style)


def plot_maps(
    image: UInt8[np.ndarray, "h w 3"],
    layers: Layers,
    maps: int,
    path: pathlib.Path,
) -> None:
    """Draws the picture, the network's input and each layer's maps."""
    panels = convolutions(layers)
    columns = min(MOST_COLUMNS, math.isqrt(len(panels) + 1) + 1)
    rows = -(-(len(panels) + 2) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.6 * rows), layout="constrained")
    first, second, *places = figure.subplots(rows, columns).flat
    show(first, image, "picture, {}x{}".format(*image.shape[:2]))
    given = layers["input"][0]
    title = "network input, {}x{}".format(*given.shape[:2])
    show(second, as_picture(given), title)
    for axis in places[len(panels) :]:
        axis.axis("off")
    for axis, (name, values) in zip(places, panels.items(), strict=False):
        _, height, width, count = values.shape
        shown = f"{maps} of {count}" if count > maps else f"{count}"
        title = f"{name}\n{shown} maps of {height}x{width}"
        drawn = show(axis, mosaic(values[0, ..., :maps]), title, **limits(values[0]))
        bar = figure.colorbar(drawn, ax=axis, shrink=0.7, extend="max")
        bar.set_label("activation", fontsize=8)
        bar.ax.tick_params(labelsize=8)
    output.write_figure(figure, path, dpi=100)


def plot_kernels(
    kernels: Float[np.ndarray, "kh kw 3 k"], maps: int, path: pathlib.Path
) -> None:
    """Draws kernels as colors: gray is zero, and each is scaled to its maximum."""
    kernels = kernels[..., :maps]
    scaled = 0.5 + 0.5 * kernels / np.abs(kernels).max(axis=(0, 1, 2))
    figure = Figure(figsize=(5, 5.3), layout="constrained")
    size = "{3} kernels of {0}x{1}".format(*kernels.shape)
    title = f"{size}, each scaled by its largest weight; gray is 0"
    show(figure.subplots(), np.nan_to_num(mosaic(scaled), nan=1), title)
    output.write_figure(figure, path, dpi=100)


def plot_noise(
    images: Images, layers: Layers, figures: dict[str, Any], path: pathlib.Path
) -> None:
    """Draws maps for each kind of image, and the change of each layer beside them."""
    panels = list(convolutions(layers).items())
    chosen = np.linspace(0, len(panels) - 1, min(NOISY_LAYERS, len(panels)))
    rows = [panels[round(i)] for i in chosen]
    figure = Figure(figsize=(16, 2.1 * (len(rows) + 1)), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[2, 1], squeeze=False).flat
    left.supxlabel(
        f"The {NOISY_MAPS} strongest maps of each layer, on the scale without noise",
        fontsize=10,
    )
    kinds = ["picture", *figures["answers"]]
    axes = left.subplots(len(rows) + 1, len(kinds))
    for column, kind in enumerate(kinds):
        # The first sample of each kind; the picture itself occurs only once.
        index = 1 + (column - 1) * figures["draws"] if column else 0
        show(axes[0, column], images[index], kind)
        for axis, (name, values) in zip(axes[1:, column], rows, strict=True):
            strongest = np.argsort(-values[0].mean(axis=(0, 1)))[:NOISY_MAPS]
            maps = mosaic(values[index][..., strongest])
            show(axis, maps, "" if column else name, **limits(values[0]))
    draw_changes(right.subplots(), figures["layers"])
    output.write_figure(figure, path, dpi=100)


def draw_changes(axis: Axes, layers: dict[str, Any]) -> None:
    """Draws one line over the layers for each kind of image."""
    *noises, shuffled = next(iter(layers.values()))["change"]
    colors = matplotlib.colormaps["viridis"](np.linspace(0.85, 0, len(noises)))
    lines = zip(noises, colors, itertools.cycle("os^Dv"), strict=False)
    styles = {kind: {"color": color, "marker": marker} for kind, color, marker in lines}
    styles[shuffled] = {"color": "#D55E00", "ls": "--", "marker": "x"}
    for kind, style in styles.items():
        means = [layer["change"][kind] for layer in layers.values()]
        deviations = [layer["change_sd"][kind] for layer in layers.values()]
        axis.errorbar(
            range(len(layers)), means, deviations, capsize=2, label=kind, **style
        )
    few = len(layers) < 9
    axis.set_xticks(range(len(layers)), layers, rotation=30 if few else 90)
    axis.tick_params(axis="x", labelsize=9 if few else 7)
    axis.set_yscale("log")
    axis.set_ylabel("|a(noisy) - a(clean)| / |a(clean)|")
    axis.set_title("Change of each layer (bars: sd of samples)", fontsize=11)
    axis.legend(frameon=False)
    axis.grid(alpha=0.3, which="both")
