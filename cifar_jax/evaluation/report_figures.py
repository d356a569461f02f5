"""Draws the figures of a report: as SVG for light and dark screens, or as PNG."""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Scheme:
    """Colors of a figure, which is drawn directly on the page's background.

    They are Okabe and Ito's blue, vermilion and green, which color-blind readers can
    tell apart; on a dark page, lighter versions.

    Attributes:
        ink: color of text and axes.
        blue: color of measurements.
        vermilion: color of anything to notice, and of test images.
        green: color of validation images.
    """

    ink: str
    blue: str
    vermilion: str
    green: str


LIGHT = Scheme("#1a1a1a", "#0072b2", "#d55e00", "#009e73")
DARK = Scheme("#e6e6e6", "#56b4e9", "#ff9a4d", "#2fd0a0")


def training_curves(
    training: dict[str, Any], scheme: Scheme, kind: str = "svg"
) -> bytes:
    """Plots the loss over steps and, below it, the precision, where known.

    Args:
        training: the training in a record from `report.contents`; not None.
        scheme: the colors.
        kind: the file type, svg or png.
    """
    with _use_scheme(scheme):
        loss, precision = training["loss"], training["precision_at_1"]
        panels = [name for name, of in (("loss", loss), ("precision", precision)) if of]
        figure = _figure(0.7 + 2.2 * len(panels))
        axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
        for axis, panel in zip(axes, panels, strict=True):
            if panel == "loss":
                marker = "o" if len(loss) == 1 else None
                axis.plot(*zip(*loss, strict=True), color=scheme.blue, marker=marker)
                axis.set(ylabel="training loss", ylim=(0, None))
            else:
                _draw_precision(axis, precision, scheme)
            axis.grid(alpha=0.3)
        axes[-1].set_xlabel("steps")
        axes[-1].xaxis.set_major_formatter("{x:,.0f}")
        axes[-1].locator_params(axis="x", integer=True, nbins=6)
        return save(figure, kind)


def _draw_precision(
    axis: Axes, precision: Mapping[str, Sequence[Sequence[float]]], scheme: Scheme
) -> None:
    """Plots the evaluations of each split, always on a scale from 0 to 1."""
    styles: dict[str, dict[str, Any]] = {
        "test": {"color": scheme.vermilion, "marker": "o"},
        "validation": {"color": scheme.green, "marker": "s", "ls": "--"},
    }
    for split, found in precision.items():
        label = f"{split} images"
        axis.plot(*zip(*found, strict=True), label=label, **styles[split])
    # Leaves room for whole markers at 0 and 1.
    axis.set(ylabel="precision @ 1", ylim=(-0.03, 1.03))
    axis.legend(frameon=False)


def reliability_diagram(
    calibration: dict[str, Any], scheme: Scheme, kind: str = "svg"
) -> bytes:
    """Plots accuracy over confidence, with image counts below.

    Args:
        calibration: the calibration in a record from `report.contents`.
        scheme: the colors.
        kind: the file type, svg or png.
    """
    with _use_scheme(scheme):
        edges = np.array(calibration["edges"])
        counts = np.array(calibration["counts"])
        filled = counts > 0
        left, width = edges[:-1][filled], np.diff(edges)[filled]
        accuracy, confidence = (
            np.array(calibration[name], float)[filled]
            for name in ("accuracy", "confidence")
        )
        gap = {"facecolor": "none", "edgecolor": scheme.vermilion, "hatch": "////"}
        figure = _figure(5.5)
        top, bottom = figure.subplots(2, sharex=True, height_ratios=[3, 1])
        # The bars have gaps between them, where any background shows.
        bars = {"align": "edge", "linewidth": 0}
        left, width = left + 0.05 * width, 0.9 * width
        top.bar(left, accuracy, width, color=scheme.blue, label="accuracy", **bars)
        missing = confidence - accuracy
        label = "gap to confidence"
        top.bar(left, missing, width, accuracy, label=label, **bars | gap)
        top.plot([0, 1], [0, 1], color=scheme.ink, dashes=(4, 2), label="calibrated")
        top.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
        figure.legend(loc="outside upper center", ncols=3, frameon=False)
        bottom.bar(left, counts[filled], width, color="0.5", **bars)
        bottom.set(xlabel=f"confidence (n = {counts.sum():,} images)", ylabel="images")
        bottom.yaxis.set_major_formatter("{x:,.0f}")
        bottom.locator_params(axis="y", integer=True, nbins=4)
        return save(figure, kind)


def _use_scheme(scheme: Scheme) -> Any:
    """Returns a context in which figures use a scheme's ink and no background."""
    inked = ("text", "xtick", "ytick")
    colors: dict[Any, str] = {f"{name}.color": scheme.ink for name in inked}
    colors |= {"axes.edgecolor": scheme.ink, "axes.labelcolor": scheme.ink}
    return matplotlib.rc_context(colors | {"axes.facecolor": "none"})


def _figure(height: float) -> Figure:
    return Figure(figsize=(5, height), layout="constrained", facecolor="none")


def save(figure: Figure, kind: str) -> bytes:
    """Returns a figure as SVG, or as PNG on white, such that equal ones are equal."""
    file = io.BytesIO()
    if kind == "png":
        figure.savefig(file, format=kind, dpi=110, facecolor="white")
        return file.getvalue()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # No random ids.
    with matplotlib.rc_context({"svg.hashsalt": "cifar_jax"}):
        figure.savefig(file, format=kind, metadata=nothing)
    return file.getvalue()
