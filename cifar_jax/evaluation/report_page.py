"""Renders a report's record as one self-contained HTML page, viewable offline."""

import base64
import html
import io
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cifar_jax.evaluation import report_figures

# A larger confusion matrix would not fit on a screen.
_MATRIX_CLASSES = 30
STYLE = (pathlib.Path(__file__).parent / "report.css").read_text(encoding="utf-8")


def page(
    record: dict[str, Any], pictures: Mapping[int, UInt8[np.ndarray, "h w 3"]]
) -> str:
    """Returns the HTML page of a record; equal arguments give equal bytes.

    Args:
        record: the record from `report.contents`.
        pictures: the images of the record's answers, by index.
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
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{_text(title)}</h1>
{notices}{_headline(record)}
<div class="columns">
<div>
{_facts(record)}
<h2>Classes</h2>
{_classes(record["classes"])}
</div>
<div>
{_training(record["training"])}<h2>Calibration</h2>
{_calibration(record)}
</div>
</div>
{_confusions(record)}
<h2>Most confident answers</h2>
{_answers(record, pictures)}
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
        "vary with another sample of the same size; it does not include the variation "
        "between runs that differ only in their seed. Guessing would get "
        f"{record['chance']:.3f}, always predicting {_text(record['largest_class'])} "
        f"{record['largest_share']:.3f}.</p>" + _only(record)
    )


def _only(record: dict[str, Any]) -> str:
    """Returns a notice if the network always gives the same answer."""
    if record["only_prediction"] is None or record["num_images"] == 1:
        return ""
    return (
        '\n<p class="notice">All images are predicted as '
        f"{_text(record['only_prediction'])}.</p>"
    )


def _facts(record: dict[str, Any]) -> str:
    facts = {
        "run": record["run"],
        "checkpoint": f"step {record['step']}, {record['parameters']} parameters",
        "images": _images(record),
        "data": record["data_source"],
        "fingerprint": record["data_fingerprint"],
        "evaluated": record["time"],
        "balanced accuracy": record["balanced_accuracy"],
        "precision @ 5": record["precision_at_5"],
        "mean negative log-likelihood": record["negative_log_likelihood"],
        "expected calibration error": record["calibration"]["error"],
    }
    known = {name: value for name, value in facts.items() if value is not None}
    return _table([], known.items(), "facts")


def _training(training: dict[str, Any] | None) -> str:
    """Returns the section about training, empty if nothing is known about it."""
    if training is None:
        return ""
    alt = "Training loss and evaluation precision over steps"
    return (
        "<h2>Training</h2>\n"
        "<p>The loss is that of the logged batches, including distortions and weight "
        "decay. The precision is that of the averaged parameters, wherever they were "
        "evaluated on all images.</p>\n"
        f"{_plot(report_figures.training_curves, training, alt)}\n"
    )


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
        "it. Recall: fraction of the images in the class that are predicted as it. F1: "
        "harmonic mean of the two. Balanced accuracy, above, is the mean of the "
        "recalls. An en dash marks a score that is undefined because there are no "
        "images to count.</p>"
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
        cells = "".join(color_cell(count, sum(counts)) for count in counts)
        body.append(f'<tr><th scope="row">{_text(name)}</th>{cells}</tr>\n')
    return (
        "<h2>Confusion matrix</h2>\n"
        "<p>Number of images by true class (rows) and predicted class (columns). "
        "Stronger colors mark a larger share of the row.</p>\n"
        f'<div class="wide"><table class="heat"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def color_cell(count: int, total: int) -> str:
    """Returns a cell shaded by its share, in a single hue, by lightness alone."""
    share = count / max(total, 1)
    # Above this share, text in the other color has more contrast; see report.css.
    strong = ' class="strong"' if share > 0.72 else ""
    return f'<td{strong} style="--share:{share:.3f}" title="{share:.1%}">{count}</td>'


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
        f"{calibration['error']:.3f}, over n = {record['num_images']:,} images. The "
        "fewer images a bar represents, the more it varies by chance.</p>\n"
        + _plot(report_figures.reliability_diagram, calibration, alt)
        + f"\n<details><summary>Values</summary>{_table(head, bins)}</details>"
    )


def _answers(
    record: dict[str, Any], pictures: Mapping[int, UInt8[np.ndarray, "h w 3"]]
) -> str:
    """Returns the right answers and the mistakes side by side."""
    sides = []
    for title, answers in (
        ("Right", record["right_answers"]),
        ("Mistakes", record["mistakes"]),
    ):
        figures = [_answer(answer, pictures[answer["index"]]) for answer in answers]
        shown = f'<div class="pictures">\n{"".join(figures)}</div>'
        sides.append(
            f"<div><h3>{title}</h3>\n{shown if figures else '<p>There are none.</p>'}"
            "</div>\n"
        )
    return (
        "<p>The answers with the highest predicted probability. The right ones start "
        "with the highest of each class, then the second highest. In some mistakes, "
        'the label may be wrong.</p>\n<div class="sides">\n' + "".join(sides) + "</div>"
    )


def _answer(answer: dict[str, Any], picture: UInt8[np.ndarray, "h w 3"]) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    label, prediction = answer["label"], answer["prediction"]
    text = f"<b>{_text(label)}</b>"
    if label != prediction:
        text += f", predicted as <b>{_text(prediction)}</b>"
    place = answer["file"] or f"image {answer['index']}"
    image = _image(file.getvalue(), "png", f"{label}, {place}")
    return (
        f"<figure>{image}<figcaption>{text} ({answer['probability']:.1%})"
        f"<br>{_text(place)}</figcaption></figure>\n"
    )


def _table(
    head: Sequence[str], rows: Iterable[Sequence[object]], kind: str = "numbers"
) -> str:
    """Returns an HTML table; rows start with a name, and floats have three decimals."""
    names = "".join(f'<th scope="col">{_text(name)}</th>' for name in head)
    body = []
    for name, *values in rows:
        cells = "".join(f"<td>{_text(_format(value))}</td>" for value in values)
        body.append(f'<tr><th scope="row">{_text(name)}</th>{cells}</tr>\n')
    return (
        f'<div class="wide"><table class="{kind}">'
        + (f"<thead><tr>{names}</tr></thead>" if head else "")
        + f"\n<tbody>{''.join(body)}</tbody></table></div>"
    )


def _format(value: object) -> str:
    if value is None:
        return "–"  # noqa: RUF001
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _plot(
    draw: Callable[[dict[str, Any], report_figures.Scheme], bytes],
    drawn: dict[str, Any],
    alt: str,
) -> str:
    """Returns a figure in the reader's color scheme, or in light colors for print."""
    light, dark = (
        _data(draw(drawn, scheme), "svg+xml")
        for scheme in (report_figures.LIGHT, report_figures.DARK)
    )
    return (
        '<picture><source media="screen and (prefers-color-scheme: dark)" '
        f'srcset="{dark}"><img class="plot" src="{light}" alt="{_text(alt)}"></picture>'
    )


def _image(content: bytes, kind: str, alt: str) -> str:
    """Returns an image to embed in the page."""
    return f'<img class="picture" src="{_data(content, kind)}" alt="{_text(alt)}">'


def _data(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _text(text: object) -> str:
    return html.escape(str(text))
