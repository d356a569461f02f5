"""The figures and answers of a report as pictures, for TensorBoard and trackers."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from PIL import Image

from cifar_jax.evaluation import report_figures

# A larger confusion matrix would not be legible.
_MATRIX_CLASSES = 30
_COLUMNS = 5


def draw(record: dict[str, Any], images: Any) -> dict[str, UInt8[np.ndarray, "h w 3"]]:
    """Returns the pictures of a report by name.

    Args:
        record: the record from `report.contents`.
        images: the evaluated images, of which it takes slices.
    """
    light = report_figures.LIGHT, "png"
    found = {
        "calibration": report_figures.reliability_diagram(record["calibration"], *light)
    }
    if record["training"] is not None:
        curves = report_figures.training_curves(record["training"], *light)
        found["training"] = curves
    if len(record["classes"]) <= _MATRIX_CLASSES:
        found["confusion_matrix"] = _confusion_matrix(record)
    for name in ("right_answers", "mistakes"):
        if record[name]:
            found[name] = _answers(record[name], images)
    return {name: as_array(content) for name, content in found.items()}


def as_array(png: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the pixels of a PNG file."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def _confusion_matrix(record: dict[str, Any]) -> bytes:
    """Draws the counts by true class and prediction, shaded by share of the row."""
    names = [one["name"] for one in record["classes"]]
    counts = np.array(record["confusion_matrix"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2 + 0.5 * len(names)
    figure = Figure(figsize=(size, size), layout="constrained")
    axis = figure.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.72 else "black"
        axis.text(column, row, str(count), ha="center", va="center", color=color)
    axis.set_xticks(range(len(names)), names, rotation="vertical", parse_math=False)
    axis.set_yticks(range(len(names)), names, parse_math=False)
    axis.set(xlabel="predicted class", ylabel="true class")
    return report_figures.save(figure, "png")


def _answers(answers: Sequence[dict[str, Any]], images: Any) -> bytes:
    """Draws images with their classes, predictions, and probabilities."""
    rows = -(-len(answers) // _COLUMNS)
    figure = Figure(figsize=(2 * _COLUMNS, 2.5 * rows), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, answer in zip(axes, answers, strict=False):
        axis.imshow(images[answer["index"]])
        words = [answer["label"], f"as {answer['prediction']}"]
        if answer["label"] == answer["prediction"]:
            words.pop()
        words.append(f"{answer['probability']:.1%}")
        axis.set_title("\n".join(words), fontsize=9, parse_math=False)
    return report_figures.save(figure, "png")
