"""A report's record as one HTML page that needs no other file and no network."""

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

# Blue and vermilion of Okabe and Ito, which the colour-blind tell apart.
_BLUE, _VERMILION = "#0072b2", "#d55e00"
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
    """The page of a record; the same bytes for the same arguments.

    Args:
        record: from `report.record`.
        pictures: the images of its mistakes, in their order.
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
<h2>Confusion matrix</h2>
{_confusion_matrix(record)}
<h2>Calibration</h2>
{_calibration(record)}
<h2>The most confident mistakes</h2>
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
        f"<p>{record['correct']:,} of {record['num_images']:,} images are right. The "
        "interval, Wilson's, says how far another draw of as many images would move "
        "that; trainings that differ in their seed alone vary on top of it.</p>"
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
        return f"{count:,} of {record['split']}"
    return f"the first {count:,} of {whole:,} of {record['split']}"


def _classes(classes: list[dict[str, Any]]) -> str:
    head = ["class", "images", "precision", "recall", "F1"]
    rows = [
        (c["name"], c["support"], c["precision"], c["recall"], c["f1"]) for c in classes
    ]
    return _table(head, rows) + (
        "<p>Precision: the share of the images taken for the class that are of it. "
        "Recall: the share of the class's images taken for it. F1: their harmonic "
        "mean. An en dash stands where there is no image to count.</p>"
    )


def _confusion_matrix(record: dict[str, Any]) -> str:
    names = [c["name"] for c in record["classes"]]
    head = "".join(
        f'<th scope="col">{_text(name)}</th>' for name in ("label \\ taken for", *names)
    )
    body = []
    for name, counts in zip(names, record["confusion_matrix"], strict=True):
        cells = "".join(_heat(count, sum(counts)) for count in counts)
        body.append(f'<tr><th scope="row">{_text(name)}</th>{cells}</tr>\n')
    return (
        "<p>How many images of each label (rows) are taken for each class (columns); "
        "the darker, the larger the share of the row.</p>\n"
        f'<div class="wide"><table class="heat"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _heat(count: int, total: int) -> str:
    """A cell as dark as its share; one hue, so that lightness alone tells it."""
    share = count / max(total, 1)
    # From here on white has more contrast than black; either has 4.5 at least.
    dark = ' class="dark"' if share > 0.72 else ""
    colour = f"background:rgb(0 68 136/{share:.3f})"
    return f'<td{dark} style="{colour}" title="{share:.1%}">{count}</td>'


def _calibration(record: dict[str, Any]) -> str:
    calibration = record["calibration"]
    alt = "Reliability diagram; its numbers are in the table below"
    head = ["confidence above", "up to", "images", "mean confidence", "share right"]
    edges = calibration["edges"]
    bins = zip(
        (f"{edge:.3f}" for edge in edges),
        edges[1:],
        calibration["counts"],
        calibration["confidence"],
        calibration["accuracy"],
        strict=False,  # one edge more than bins
    )
    return (
        "<p>Of images on which the network is sure to 80%, 80% should be right. The "
        "expected calibration error is the mean distance from that, here "
        f"{calibration['error']:.3f}.</p>\n"
        + _image(_reliability_diagram(calibration), "svg+xml", alt, "plot")
        + f"\n<details><summary>The numbers</summary>{_table(head, bins)}</details>"
    )


def _reliability_diagram(calibration: dict[str, Any]) -> bytes:
    """Accuracy over confidence, and under it how many images there are, as SVG."""
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
    # A salt makes the ids in the file, random otherwise, the same every time.
    with matplotlib.rc_context({"svg.hashsalt": "cifar_jax"}):
        figure = Figure(figsize=(5, 5.5), layout="constrained")
        top, bottom = figure.subplots(2, sharex=True, height_ratios=[3, 1])
        top.bar(left, accuracy, width, color=_BLUE, label="share right", **bars)
        top.bar(
            left,
            confidence - accuracy,
            width,
            accuracy,
            label="gap to the confidence",
            **bars | gap,
        )
        top.plot([0, 1], [0, 1], color="black", dashes=(4, 2), label="calibrated")
        top.set(xlim=(0, 1), ylim=(0, 1), ylabel="share right")
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
            f"<b>{_text(mistake['label'])}</b>, taken for "
            f"<b>{_text(mistake['prediction'])}</b> at {mistake['probability']:.1%}"
            f"<br>image {mistake['index']}</figcaption></figure>\n"
        )
    return (
        f"<p>The {len(mistakes)} of highest probability. A label may be the one that "
        'is wrong.</p>\n<div class="pictures">\n' + "".join(figures) + "</div>"
    )


def _table(
    head: Sequence[str], rows: Iterable[Sequence[object]], kind: str = "numbers"
) -> str:
    """A table whose rows begin with their name; fractions with three digits."""
    names = "".join(f'<th scope="col">{_text(name)}</th>' for name in head)
    body = []
    for name, *values in rows:
        cells = "".join(f"<td>{_text(_shown(value))}</td>" for value in values)
        body.append(f'<tr><th scope="row">{_text(name)}</th>{cells}</tr>\n')
    return (
        f'<div class="wide"><table class="{kind}">'
        + (f"<thead><tr>{names}</tr></thead>" if head else "")
        + f"\n<tbody>{''.join(body)}</tbody></table></div>"
    )


def _shown(value: object) -> str:
    if value is None:
        return "–"  # noqa: RUF001
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _image(content: bytes, kind: str, alt: str, style: str = "picture") -> str:
    """An image inside the page itself."""
    data = base64.b64encode(content).decode()
    source = f"data:image/{kind};base64,{data}"
    return f'<img class="{style}" src="{source}" alt="{_text(alt)}">'


def _text(text: object) -> str:
    return html.escape(str(text))
