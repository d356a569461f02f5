"""Renders a report's record as one self-contained HTML page, viewable offline."""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from PIL import Image

# Okabe and Ito's blue and vermilion, which color-blind readers can tell apart.
_BLUE, _VERMILION = "#0072b2", "#d55e00"
# A larger confusion matrix would not fit a screen.
_MATRIX_CLASSES = 30
_STYLE = """
:root { color-scheme: light; }
body { font: 1rem/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin-top: 2.5rem; break-after: avoid; }
p { max-width: 42rem; }
.notice { border: 2px solid #d55e00; border-left-width: 0.6rem; padding: 0.6rem 1rem;
  max-width: none; white-space: pre-line; overflow-wrap: anywhere; }
.headline { font-size: 1.3rem; }
.headline b { font-size: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.6rem; text-align: right; }
thead th { border-bottom: 1px solid #666; vertical-align: bottom; }
th { font-weight: 600; }
tbody th, thead th:first-child { text-align: left; }
.facts td { text-align: left; overflow-wrap: anywhere; }
.facts th { vertical-align: top; }
.heat { font-size: 0.85rem; }
.heat th { padding: 0.2rem 0.4rem; }
.heat thead th + th { text-align: center; }
.heat td { min-width: 3rem; text-align: center; border: 1px solid #fff; color: #000;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.heat .dark { color: #fff; }
.plot { width: 100%; max-width: 30rem; height: auto; }
.pictures { display: grid; gap: 1rem 0.8rem; padding: 0;
  grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); }
figure { margin: 0; break-inside: avoid; font-size: 0.85rem; line-height: 1.35; }
figure img { width: 100%; aspect-ratio: 1; image-rendering: pixelated; }
@media print { body { font-size: 10pt; max-width: none; padding: 0; }
  .wide { overflow: visible; break-inside: avoid; } .plot { max-width: 20rem; }
  .heat { font-size: 7pt; } .heat td { min-width: 0; }
  .pictures { grid-template-columns: repeat(6, 1fr); } }
"""


def page(
    record: dict[str, Any], pictures: Sequence[UInt8[np.ndarray, "32 32 3"]]
) -> str:
    """Returns the HTML page of a record; equal arguments give equal bytes.

    Args:
        record: return value of `report.record`.
        pictures: images of the record's mistakes, in the same order.
    """
    title = f"{record['run']}, step {record['step']}: {record['split']}"
    notices = "".join(f'<p class="notice">{_text(n)}</p>\n' for n in record["notices"])
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="{_text(record["generator"])}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{_text(title)}</h1>
{notices}{_headline(record)}
{_facts(record)}
<h2>Classes</h2>
{_classes(record["classes"])}
{_confusions(record)}
<h2>Calibration</h2>
{_calibration(record)}
<h2>Most confident mistakes</h2>
{_mistakes(record["mistakes"], pictures)}
</main>
</body>
</html>
"""


def _headline(record: dict[str, Any]) -> str:
    low, high = record["precision_at_1_interval_95"]
    return (
        f'<p class="headline">precision @ 1 = <b>{record["precision_at_1"]:.3f}</b>, '
        f"95% interval {low:.3f} to {high:.3f}</p>\n"
        f"<p>{record['correct']:,} of {record['num_images']:,} images are "
        "classified correctly. The Wilson interval shows how much the precision would "
        "vary with another sample of as many images; the variation between runs that "
        "differ only in their seed comes on top.</p>"
    )


def _facts(record: dict[str, Any]) -> str:
    facts = {
        "run": record["run"],
        "checkpoint": f"step {record['step']}, {record['parameters']} parameters",
        "images": _images(record),
        "data": record["data_source"],
        "fingerprint": record["data_fingerprint"],
        "evaluated": record["time"],
        "precision @ 5": record["precision_at_5"],
        "mean negative log-likelihood": record["negative_log_likelihood"],
        "expected calibration error": record["calibration"]["error"],
    }
    return _table([], facts.items(), "facts")


def _images(record: dict[str, Any]) -> str:
    count, whole = record["num_images"], record["examples_in_split"]
    if count == whole:
        return f"{count:,} {record['split']} images"
    return f"the first {count:,} of {whole:,} {record['split']} images"


def _classes(classes: list[dict[str, Any]]) -> str:
    head = ["class", "images", "precision", "recall", "F1"]
    rows = [
        (c["name"], c["support"], c["precision"], c["recall"], c["f1"]) for c in classes
    ]
    return _table(head, rows) + (
        "<p>Precision: fraction of the images predicted as the class that belong to "
        "it. Recall: fraction of the images of the class that are predicted as it. F1: "
        "harmonic mean of the two. An en dash marks a score that is undefined because "
        "there are no images to count.</p>"
    )


def _confusions(record: dict[str, Any]) -> str:
    if len(record["classes"]) <= _MATRIX_CLASSES:
        return _confusion_matrix(record)
    rows = [(c["label"], c["prediction"], c["count"]) for c in record["confusions"]]
    return "<h2>Most frequent confusions</h2>\n" + (
        _table(["label", "predicted as", "images"], rows)
        if rows
        else "<p>There are none.</p>"
    )


def _confusion_matrix(record: dict[str, Any]) -> str:
    names = [c["name"] for c in record["classes"]]
    head = "".join(
        f'<th scope="col">{_text(name)}</th>' for name in ("true \\ predicted", *names)
    )
    body = []
    for name, counts in zip(names, record["confusion_matrix"], strict=True):
        cells = "".join(_heat(count, sum(counts)) for count in counts)
        body.append(f'<tr><th scope="row">{_text(name)}</th>{cells}</tr>\n')
    return (
        "<h2>Confusion matrix</h2>\n"
        "<p>Number of images by true class (rows) and predicted class (columns); "
        "darker cells hold a larger share of their row.</p>\n"
        f'<div class="wide"><table class="heat"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _heat(count: int, total: int) -> str:
    """Returns a cell shaded by its share; with one hue, lightness alone encodes it."""
    share = count / max(total, 1)
    # Above this share, white text has more contrast than black; whichever is used has
    # a contrast of at least 4.5.
    dark = ' class="dark"' if share > 0.72 else ""
    color = f"background:rgb(0 68 136/{share:.3f})"
    return f'<td{dark} style="{color}" title="{share:.1%}">{count}</td>'


def _calibration(record: dict[str, Any]) -> str:
    calibration = record["calibration"]
    alt = "Reliability diagram; the table below lists its values"
    head = ["confidence above", "up to", "images", "mean confidence", "accuracy"]
    edges = calibration["edges"]
    bins = zip(
        (f"{edge:.3f}" for edge in edges),
        edges[1:],
        calibration["counts"],
        calibration["confidence"],
        calibration["accuracy"],
        strict=False,  # There is one more edge than bins.
    )
    return (
        "<p>Of the images classified with 80% confidence, 80% should be correct. The "
        "expected calibration error is the mean deviation from this ideal, here "
        f"{calibration['error']:.3f}.</p>\n"
        + _image(_reliability_diagram(calibration), "svg+xml", alt, "plot")
        + f"\n<details><summary>Values</summary>{_table(head, bins)}</details>"
    )


def _reliability_diagram(calibration: dict[str, Any]) -> bytes:
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
    # Without a fixed salt, the ids in the file would be random.
    with matplotlib.rc_context({"svg.hashsalt": "cifar_jax"}):
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
        file = io.BytesIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=nothing)
    return file.getvalue()


def _mistakes(
    mistakes: list[dict[str, Any]], pictures: Sequence[UInt8[np.ndarray, "32 32 3"]]
) -> str:
    if not mistakes:
        return "<p>There are none.</p>"
    figures = []
    for mistake, picture in zip(mistakes, pictures, strict=True):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG", optimize=True)
        alt = f"{mistake['label']}, image {mistake['index']}"
        figures.append(
            f"<figure>{_image(file.getvalue(), 'png', alt)}<figcaption>"
            f"<b>{_text(mistake['label'])}</b>, predicted as "
            f"<b>{_text(mistake['prediction'])}</b> ({mistake['probability']:.1%})"
            f"<br>image {mistake['index']}</figcaption></figure>\n"
        )
    return (
        f"<p>The {len(mistakes)} with the highest predicted probability. In some cases "
        'the label itself may be wrong.</p>\n<div class="pictures">\n'
        + "".join(figures)
        + "</div>"
    )


def _table(
    head: Sequence[str], rows: Iterable[Sequence[object]], kind: str = "numbers"
) -> str:
    """Returns an HTML table; rows start with their name, floats have three digits."""
    names = "".join(f'<th scope="col">{_text(name)}</th>' for name in head)
    body = []
    for name, *values in rows:
        cells = "".join(f"<td>{_text(_formatted(value))}</td>" for value in values)
        body.append(f'<tr><th scope="row">{_text(name)}</th>{cells}</tr>\n')
    return (
        f'<div class="wide"><table class="{kind}">'
        + (f"<thead><tr>{names}</tr></thead>" if head else "")
        + f"\n<tbody>{''.join(body)}</tbody></table></div>"
    )


def _formatted(value: object) -> str:
    if value is None:
        return "–"  # noqa: RUF001
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _image(content: bytes, kind: str, alt: str, style: str = "picture") -> str:
    """Returns an image embedded in the page."""
    data = base64.b64encode(content).decode()
    source = f"data:image/{kind};base64,{data}"
    return f'<img class="{style}" src="{source}" alt="{_text(alt)}">'


def _text(text: object) -> str:
    return html.escape(str(text))
