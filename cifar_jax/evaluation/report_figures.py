"""Draws the figures of a report's page, as SVG."""

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

# Okabe and Ito's blue, vermilion and green, which color-blind readers can tell apart.
_BLUE, _VERMILION, _GREEN = "#0072b2", "#d55e00", "#009e73"
_STYLES = {
    "test": {"color": _VERMILION, "marker": "o"},
    "validation": {"color": _GREEN, "marker": "s", "ls": "--"},
}


def training_curves(training: dict[str, Any]) -> bytes:
    """Plots the loss over the steps, and below it the precision, where they are known.

    Args:
        training: of a record of `report.contents`; not None.
    """
    loss, precision = training["loss"], training["precision_at_1"]
    panels = [name for name, of in (("loss", loss), ("precision", precision)) if of]
    figure = Figure(figsize=(5, 0.7 + 2.4 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        if panel == "loss":
            marker = "o" if len(loss) == 1 else None
            axis.plot(*zip(*loss, strict=True), color=_BLUE, marker=marker)
            axis.set_ylabel("training loss")
        else:
            for split, found in precision.items():
                label = f"{split} images"
                axis.plot(*zip(*found, strict=True), label=label, **_STYLES[split])
            axis.set_ylabel("precision @ 1")
            axis.legend(frameon=False, loc="lower right")
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("steps")
    axes[-1].xaxis.set_major_formatter("{x:,.0f}")
    axes[-1].locator_params(axis="x", integer=True, nbins=6)
    return _svg(figure)


def reliability_diagram(calibration: dict[str, Any]) -> bytes:
    """Plots accuracy over confidence, with image counts below, as SVG."""
    edges = np.array(calibration["edges"])
    counts = np.array(calibration["counts"])
    filled = counts > 0
    left, width = edges[:-1][filled], np.diff(edges)[filled]
    accuracy, confidence = (
        np.array(calibration[name], float)[filled]
        for name in ("accuracy", "confidence")
    )
    bars = {"align": "edge", "edgecolor": "white"}
    gap = {"facecolor": "none", "edgecolor": _VERMILION, "hatch": "////"}
    figure = Figure(figsize=(5, 5.5), layout="constrained")
    top, bottom = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    top.bar(left, accuracy, width, color=_BLUE, label="accuracy", **bars)
    top.bar(
        left,
        confidence - accuracy,
        width,
        accuracy,
        label="gap to confidence",
        **bars | gap,
    )
    top.plot([0, 1], [0, 1], color="black", dashes=(4, 2), label="calibrated")
    top.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    bottom.bar(left, counts[filled], width, color="0.5", **bars)
    bottom.set(xlabel="confidence", ylabel="images")
    return _svg(figure)


def _svg(figure: Figure) -> bytes:
    """Returns the same file for the same figure: without a date or random ids."""
    file = io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": "cifar_jax"}):
        figure.savefig(file, format="svg", metadata=nothing)
    return file.getvalue()
