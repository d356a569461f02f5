"""Draws the figures for `experiments.course.feature_maps`."""

import itertools
import pathlib
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, Integer, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from cifar_jax.data.folder.pictures import as_picture
from cifar_jax.evaluation.feature_maps import Layers, convolutions, limits, mosaic
from experiments.course.corruptions import Images
from experiments.harness import output, plots

# Number of layers whose maps are shown with noise, and of maps per layer.
NOISY_LAYERS, NOISY_MAPS = 3, 9
# Maps per row, rows for all layers together, and the fewest rows for each layer.
# More would not fit a screen.
COLUMNS, MOST_ROWS, FEWEST_ROWS = 8, 8, 2


def show(axis: Axes, image: np.ndarray, title: str, **style: Any) -> Any:
    """Draws an image without axes."""
    axis.set_title(plots.times(title), fontsize=10)
    axis.axis("off")
    return axis.imshow(image, interpolation="nearest", **style)


def plot_maps(
    image: UInt8[np.ndarray, "h w 3"],
    layers: Layers,
    maps: int,
    path: pathlib.Path,
) -> None:
    """Draws the picture, the network's input, and below them each layer's maps.

    It shows the strongest maps of each layer, and fewer if there are many layers.
    """
    panels = convolutions(layers)
    most = min(maps, COLUMNS * max(FEWEST_ROWS, MOST_ROWS // len(panels)))
    heights = [
        1.1 + plots.WIDTH / COLUMNS * -(-min(most, values.shape[-1]) // COLUMNS)
        for values in panels.values()
    ]
    figure = plots.figure(2.4 + sum(heights), "What does each convolution see?")
    ratios = [2, *heights]
    parts = figure.subfigures(len(ratios), 1, height_ratios=ratios, squeeze=False)
    top, *blocks = parts.flat
    first, second = top.subplots(1, 2)
    show(first, image, "picture, {}x{}".format(*image.shape[:2]))
    given = layers["input"][0]
    title = "network input, {}x{}".format(*given.shape[:2])
    show(second, as_picture(given), title)
    for block, (name, values) in zip(blocks, panels.items(), strict=True):
        draw_layer(block, name, values, most)
    output.write_figure(figure, path)


def draw_layer(
    block: SubFigure, name: str, values: Float[np.ndarray, "n h w k"], most: int
) -> None:
    """Draws the strongest maps of a layer for the first image."""
    _, height, width, count = values.shape
    order = strongest(values, most)
    shown = f"{count}" if len(order) == count else f"{len(order)} of {count}"
    title = f"{name}: {shown} maps of {height}x{width}, strongest first"
    axis = block.subplots()
    grid = mosaic(values[0][..., order], COLUMNS)
    drawn = show(axis, grid, title, **limits(values[0]))
    place: dict[str, Any] = {"location": "bottom", "shrink": 0.5, "aspect": 40}
    block.colorbar(drawn, ax=axis, extend="max", label="activation", **place)


def strongest(
    values: Float[np.ndarray, "n h w k"], most: int
) -> Integer[np.ndarray, " m"]:
    """Returns the indices of the maps with the largest means for the first image."""
    return np.argsort(-values[0].mean(axis=(0, 1)), kind="stable")[:most]


def plot_kernels(
    kernels: Float[np.ndarray, "kh kw 3 k"], maps: int, path: pathlib.Path
) -> None:
    """Draws kernels as colors, each scaled by its largest weight; gray is zero."""
    kernels = kernels[..., :maps]
    scaled = 0.5 + 0.5 * kernels / np.abs(kernels).max(axis=(0, 1, 2))
    grid = np.nan_to_num(mosaic(scaled, COLUMNS), nan=1)
    height = 0.9 + plots.WIDTH * len(grid) / grid.shape[1]
    figure = plots.figure(height, "What does the first convolution look for?")
    size = "{3} kernels of {0}x{1}".format(*kernels.shape)
    show(
        figure.subplots(), grid, f"{size}, each scaled by its largest weight; gray is 0"
    )
    output.write_figure(figure, path)


def plot_noise(
    images: Images, layers: Layers, figures: dict[str, Any], path: pathlib.Path
) -> None:
    """Draws maps for each type of image, and below them the change of each layer."""
    panels = list(convolutions(layers).items())
    chosen = np.linspace(0, len(panels) - 1, min(NOISY_LAYERS, len(panels)))
    rows = [panels[round(i)] for i in chosen]
    kinds = ["picture", *figures["answers"]]
    height = 1.25 * plots.WIDTH / len(kinds) * (len(rows) + 1)
    figure = plots.figure(height + 5, "How does noise change what each layer sees?")
    ratios = [height, 4.5]
    top, bottom = figure.subfigures(2, 1, height_ratios=ratios, squeeze=False).flat
    top.supxlabel(
        f"the {NOISY_MAPS} strongest maps of a layer, on the scale without noise",
        fontsize=10,
    )
    axes = top.subplots(len(rows) + 1, len(kinds))
    for column, kind in enumerate(kinds):
        # The first sample of each type; the picture itself occurs only once.
        index = 1 + (column - 1) * figures["draws"] if column else 0
        show(axes[0, column], images[index], kind)
        for axis, (name, values) in zip(axes[1:, column], rows, strict=True):
            maps = mosaic(values[index][..., strongest(values, NOISY_MAPS)])
            show(axis, maps, "" if column else name, **limits(values[0]))
    draw_changes(bottom.subplots(), figures)
    output.write_figure(figure, path)


def draw_changes(axis: Axes, figures: dict[str, Any]) -> None:
    """Draws one line over the layers for each type of image."""
    layers, draws = figures["layers"], figures["draws"]
    *noises, shuffled = next(iter(layers.values()))["change"]
    colors = matplotlib.colormaps["viridis"](np.linspace(0.85, 0, len(noises)))
    lines = zip(noises, colors, itertools.cycle("os^Dv"), strict=False)
    styles = {kind: {"color": color, "marker": marker} for kind, color, marker in lines}
    styles[shuffled] = {"color": plots.STYLES[1]["color"], "ls": "--", "marker": "x"}
    for kind, style in styles.items():
        means = [layer["change"][kind] for layer in layers.values()]
        deviations = [layer["change_sd"][kind] for layer in layers.values()]
        axis.errorbar(
            range(len(layers)),
            means,
            deviations if draws > 1 else None,
            capsize=2,
            label=kind,
            **style,
        )
    few = len(layers) < 9
    axis.set_xticks(range(len(layers)), layers, rotation=30 if few else 90)
    axis.tick_params(axis="x", labelsize=9 if few else 7)
    axis.set_yscale("log")
    axis.set_ylabel("|a(noisy) - a(clean)| / |a(clean)|")
    bars = f"mean and sd of n = {draws} samples" if draws > 1 else "n = 1 sample"
    axis.set_title(f"change of each layer, log scale: {bars}", fontsize=10)
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.grid(alpha=0.3, which="both")
