"""Evaluation reports: report.json for programs, report.html for people.

The page is built only from the JSON record and the images, so the two always agree.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Integer, UInt8

from cifar_jax import extras
from cifar_jax.data import Split
from cifar_jax.errors import RunError, UserError
from cifar_jax.evaluation import comparison
from cifar_jax.metrics import scores
from cifar_jax.runs.files import check_folder, write_together

PAGE, RECORD = "report.html", "report.json"
FILES = (PAGE, RECORD)
GENERATOR = "python -m cifar_jax.eval --report"
# The directories in an absolute path on any system, but not in a URL.
_DIRECTORIES = re.compile(
    r"(?<![\w.:/\\~])(?:[A-Za-z]:)?[/\\](?:[^/\\\s]+[/\\])*(?=\S)"
)
# All files name their generator within this many bytes.
_HEAD = 1000
# Right answers, and mistakes, to show.
_ANSWERS = 20
_CONFUSIONS = 40
# With more classes, the matrix would take hundreds of megabytes.
_MATRIX_CLASSES = 1_000


@dataclasses.dataclass(frozen=True)
class Subject:
    """What was evaluated, and what a reader needs to know about it.

    Attributes:
        run: name of the run's folder.
        step: step of the checkpoint.
        parameters: "averaged" or "raw".
        split: name of the split.
        examples_in_split: size of the split; fewer images may have been evaluated.
        class_names: names of the classes, in label order.
        data_source: where the pixels came from.
        data_fingerprint: SHA-256 of the pixels and labels.
        notices: warnings that apply to the results.
        time: time of the evaluation.
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


def check(directory: pathlib.Path, names: Sequence[str] = FILES) -> None:
    """Checks the report folder before the evaluation starts, without changing it.

    Args:
        directory: the folder, which need not exist.
        names: names of the report's files.

    Raises:
        UserError: the folder is not writable, or contains files with the report's
            names that are not earlier reports, or a plotting package is missing.
    """
    extras.require(f"--report={directory}", "report", "matplotlib", "sklearn")
    check_folder(directory, "report")
    for path in (directory / name for name in names):
        if path.exists() and not is_written_by(GENERATOR, path):
            raise UserError(
                f"--report={directory}: {path} was not written by --report and would "
                "be overwritten; choose another folder"
            )


def write(
    directory: pathlib.Path,
    subject: Subject,
    split: Split,
    logits: Float[np.ndarray, "n classes"],
    history: comparison.History | None = None,
) -> pathlib.Path:
    """Writes the report of an evaluation and returns the path of the page.

    Args:
        directory: folder that has passed `check`; it is created if missing.
        subject: what was evaluated.
        split: evaluated images and labels.
        logits: logits of these images.
        history: the run's history, for its training curves; None leaves them out.

    Raises:
        RunError: the files cannot be written.
    """
    # Imported here because matplotlib takes a second and only reports need it.
    from cifar_jax.evaluation import report_page

    found = contents(subject, logits, split.labels, history, split.names)
    shown = found["right_answers"] + found["mistakes"]
    pictures = {one["index"]: split.images[one["index"]] for one in shown}
    page = report_page.page(found, pictures)
    write_files(directory, {RECORD: as_json(found), PAGE: page})
    return directory / PAGE


def shown(
    page: pathlib.Path, split: Split
) -> tuple[dict[str, UInt8[np.ndarray, "h w 3"]], dict[str, str]]:
    """Returns the pictures by name, and the page by name, of a report for writers.

    Args:
        page: the path of the page, as returned by `write`.
        split: the evaluated images.
    """
    # Imported here because matplotlib takes a second and only reports need it.
    from cifar_jax.evaluation import report_pictures

    record = json.loads((page.parent / RECORD).read_text(encoding="utf-8"))
    pictures = report_pictures.draw(record, split.images)
    return pictures, {"report": page.read_text(encoding="utf-8")}


def without_directories(text: str) -> str:
    """Returns a text with absolute paths reduced to their last names.

    Reports are shared with others, to whom directories on this machine mean nothing.
    """
    return _DIRECTORIES.sub("", text)


def as_json(contents: dict[str, Any]) -> str:
    """Returns a record as JSON text."""
    return json.dumps(contents, indent=2, allow_nan=False) + "\n"


def write_files(directory: pathlib.Path, files: dict[str, str | bytes]) -> None:
    """Writes the files of a report, given by name.

    Raises:
        RunError: the files cannot be written.
    """
    try:
        write_together(directory, files)
    except OSError as error:
        raise RunError(
            f"cannot write the report to {directory}: {error.strerror or error}"
        ) from error


def is_written_by(generator: str, path: pathlib.Path) -> bool:
    """Returns whether a file names this generator near its start, as reports do.

    Raises:
        OSError: the file cannot be read.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return generator.encode() in file.read(_HEAD)


def contents(
    subject: Subject,
    logits: Float[np.ndarray, "n classes"],
    labels: Integer[np.ndarray, " n"],
    history: comparison.History | None = None,
    files: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Returns the contents of the report, ready for JSON.

    Undefined values are None. So are the precision @ 5 with 5 classes or fewer, which
    would always be 1; the confusion matrix of too many classes; the only prediction if
    there are several; the training if nothing is known about it; and the file of an
    image that is known only by number.
    """
    names = subject.class_names
    matrix = None
    if len(names) <= _MATRIX_CLASSES:
        matrix = scores.confusion_matrix(logits, labels).tolist()
    precision = scores.accuracy(logits, labels)
    correct = round(precision * len(labels))
    counts = np.bincount(labels)
    only = scores.only_prediction(logits)
    return {
        "generator": GENERATOR,
        **dataclasses.asdict(subject),
        "num_images": len(labels),
        "correct": correct,
        "precision_at_1": precision,
        "precision_at_1_interval_95": scores.wilson_interval(correct, len(labels)),
        "balanced_accuracy": scores.balanced_accuracy(logits, labels),
        "chance": 1 / len(names),
        "largest_class": names[counts.argmax()],
        "largest_share": counts.max() / len(labels),
        "only_prediction": None if only is None else names[only],
        "precision_at_5": (
            scores.accuracy_at(5, logits, labels) if len(names) > 5 else None
        ),
        "negative_log_likelihood": scores.negative_log_likelihood(logits, labels),
        "classes": _classes(names, logits, labels),
        "confusion_matrix": matrix,
        "confusions": [
            {"label": names[label], "prediction": names[prediction], "count": count}
            for label, prediction, count in scores.confusions(
                logits, labels, _CONFUSIONS
            )
        ],
        "calibration": {
            name: _json(value)
            for name, value in vars(scores.calibration(logits, labels)).items()
        },
        "right_answers": _answers(
            names,
            logits,
            labels,
            scores.confident_right_answers(logits, labels, _ANSWERS),
            files,
        ),
        "mistakes": _answers(
            names,
            logits,
            labels,
            scores.confident_mistakes(logits, labels, _ANSWERS),
            files,
        ),
        "training": _training(history) if history else None,
    }


def _classes(
    names: tuple[str, ...], logits: np.ndarray, labels: np.ndarray
) -> list[dict[str, Any]]:
    found = vars(scores.class_scores(logits, labels))
    return [
        {"name": name} | {score: _json(values[i]) for score, values in found.items()}
        for i, name in enumerate(names)
    ]


def _answers(
    names: tuple[str, ...],
    logits: np.ndarray,
    labels: np.ndarray,
    chosen: np.ndarray,
    files: Sequence[str] | None,
) -> list[dict[str, Any]]:
    probabilities = scores.probabilities(logits)
    return [
        {
            "index": int(i),
            "file": None if files is None else files[i],
            "label": names[labels[i]],
            "prediction": names[logits[i].argmax()],
            "probability": float(probabilities[i].max()),
            "probability_of_label": float(probabilities[i, labels[i]]),
        }
        for i in chosen
    ]


def _training(history: comparison.History) -> dict[str, Any] | None:
    """Returns (step, value) pairs for the loss, and for the precision by split."""
    [run] = comparison.compare([history])
    loss = list(zip(run["loss"]["steps"], run["loss"]["total_loss"], strict=True))
    precision = {
        split: [(one["step"], one["precision_at_1"]) for one in found["all"]]
        for split, found in run["evaluations"].items()
        if found
    }
    if not loss and not precision:
        return None
    return {"loss": loss, "precision_at_1": precision}


def _json(values: Any) -> Any:
    """Converts NumPy numbers to Python numbers and NaN to None."""
    listed = np.asarray(values).tolist()
    if isinstance(listed, list):
        return [_json(value) for value in listed]
    return None if listed != listed else listed
