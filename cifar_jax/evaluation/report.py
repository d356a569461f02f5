"""The report of an evaluation: report.json for programs, report.html for people.

The page is made of the JSON record and the pictures alone, so both say the same.
"""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from cifar_jax.data import Split
from cifar_jax.errors import RunError, UserError
from cifar_jax.evaluation import metrics
from cifar_jax.runs.files import check_folder, write_atomically

PAGE, RECORD = "report.html", "report.json"
_GENERATOR = "python -m cifar_jax.eval --report"
# Both files say within so many bytes who wrote them.
_HEAD = 500
_MISTAKES = 36


@dataclasses.dataclass(frozen=True)
class Subject:
    """What was evaluated, and what a reader must know of it.

    Attributes:
        run: folder of the run.
        step: of the checkpoint.
        parameters: "averaged" or "raw".
        split: name of the images.
        examples_in_split: how many it has; fewer may have been evaluated.
        class_names: of the labels, in their order.
        data_source: where the pixels came from.
        data_fingerprint: SHA-256 of the pixels and labels.
        notices: warnings that belong to the results.
        time: when it was evaluated.
    """

    run: str
    step: int
    parameters: str
    split: str
    examples_in_split: int
    class_names: tuple[str, ...]
    data_source: str
    data_fingerprint: str
    notices: tuple[str, ...]
    time: str


def check(directory: pathlib.Path) -> None:
    """Checks the folder of a report before the work that is reported; changes nothing.

    Raises:
        UserError: it cannot be written, or holds files under our names that are not
            earlier reports.
    """
    check_folder(directory, "report")
    for path in (directory / PAGE, directory / RECORD):
        if path.exists() and not _is_ours(path):
            raise UserError(
                f"--report={directory}: {path} is no report of ours and would be "
                "overwritten; choose another folder"
            )


def write(
    directory: pathlib.Path,
    subject: Subject,
    split: Split,
    logits: Float[np.ndarray, "n classes"],
) -> pathlib.Path:
    """Writes the report of an evaluation; returns the path of the page.

    Args:
        directory: checked before; it is made.
        subject: what was evaluated.
        split: the images and their labels.
        logits: what the network says of them.

    Raises:
        RunError: the files cannot be written.
    """
    # Imported here for matplotlib, which takes a second and only reports need.
    from cifar_jax.evaluation import report_page

    contents = record(subject, logits, split.labels)
    pictures = [split.images[m["index"]] for m in contents["mistakes"]]
    page = report_page.page(contents, pictures)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        text = json.dumps(contents, indent=2, allow_nan=False)
        write_atomically(directory / RECORD, text + "\n")
        write_atomically(directory / PAGE, page)
    except OSError as error:
        raise RunError(
            f"cannot write the report in {directory}: {error.strerror or error}"
        ) from error
    return directory / PAGE


def record(
    subject: Subject,
    logits: Float[np.ndarray, "n classes"],
    labels: Integer[np.ndarray, " n"],
) -> dict[str, Any]:
    """All that the report says, ready for JSON; None is what is undefined."""
    precision = metrics.accuracy(logits, labels)
    correct = round(precision * len(labels))
    return {
        "generator": _GENERATOR,
        **dataclasses.asdict(subject),
        "num_images": len(labels),
        "correct": correct,
        "precision_at_1": precision,
        "precision_at_1_interval_95": metrics.wilson_interval(correct, len(labels)),
        "precision_at_5": metrics.accuracy_at(5, logits, labels),
        "negative_log_likelihood": metrics.negative_log_likelihood(logits, labels),
        "classes": _classes(subject.class_names, logits, labels),
        "confusion_matrix": metrics.confusion_matrix(logits, labels).tolist(),
        "calibration": {
            name: _json(value)
            for name, value in vars(metrics.calibration(logits, labels)).items()
        },
        "mistakes": _mistakes(subject.class_names, logits, labels),
    }


def _classes(
    names: tuple[str, ...], logits: np.ndarray, labels: np.ndarray
) -> list[dict[str, Any]]:
    scores = vars(metrics.class_scores(logits, labels))
    return [
        {"name": name} | {score: _json(values[i]) for score, values in scores.items()}
        for i, name in enumerate(names)
    ]


def _mistakes(
    names: tuple[str, ...], logits: np.ndarray, labels: np.ndarray
) -> list[dict[str, Any]]:
    probabilities = metrics.probabilities(logits)
    return [
        {
            "index": int(i),
            "label": names[labels[i]],
            "prediction": names[logits[i].argmax()],
            "probability": float(probabilities[i].max()),
            "probability_of_label": float(probabilities[i, labels[i]]),
        }
        for i in metrics.confident_mistakes(logits, labels, _MISTAKES)
    ]


def _json(values: Any) -> Any:
    """Numbers of NumPy as Python's, NaN as None."""
    listed = np.asarray(values).tolist()
    if isinstance(listed, list):
        return [_json(value) for value in listed]
    return None if listed != listed else listed


def _is_ours(path: pathlib.Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _GENERATOR.encode() in file.read(_HEAD)
