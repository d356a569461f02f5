"""The errors of a network on CIFAR-10-C: a table, a record and a picture.

The mean corruption error is the plain mean of the errors. Hendrycks and Dietterich,
arXiv:1903.12261, divide by AlexNet's errors only on ImageNet-C, not on CIFAR-10-C.
"""

import dataclasses
import hashlib
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from cifar_jax.data.cifar.robustness import (
    BENCHMARK,
    CORRUPTIONS,
    SEVERITIES,
    CorruptedImages,
)
from cifar_jax.data.split import fingerprint
from cifar_jax.evaluation import report
from cifar_jax.evaluation.inference import Trained, predict_logits
from cifar_jax.metrics import scores

PICTURE, RECORD = "corruptions.png", "corruptions.json"
FILES = (PICTURE, RECORD)

Errors = Float[np.ndarray, "corruptions severities"]


def evaluate(
    network: Trained, images: CorruptedImages, count: int, batch_size: int
) -> tuple[Errors, str]:
    """Returns the errors on CIFAR-10-C, and the fingerprint of the evaluated images.

    Progress is shown on a terminal. Only one severity of a corruption is in memory at a
    time; all of them have the same shape, so the network is compiled once.

    Args:
        network: a network trained on CIFAR-10.
        images: the images of CIFAR-10-C.
        count: number of images per corruption and severity; the first ones are used.
        batch_size: see `predict_logits`.

    Returns:
        The fraction of misclassified images for each of CORRUPTIONS (rows) at each of
        SEVERITIES (columns), and a SHA-256 over the fingerprints of these parts.

    Raises:
        UserError: the images can no longer be read.
    """
    # Imported here because only this evaluation takes long enough.
    from tqdm import tqdm

    errors = np.empty((len(CORRUPTIONS), len(SEVERITIES)))
    digest = hashlib.sha256()
    # disable=None disables it unless standard error is a terminal.
    with tqdm(total=errors.size * count, unit=" images", disable=None) as progress:
        for row, corruption in enumerate(CORRUPTIONS):
            progress.set_description(corruption)
            for column, severity in enumerate(SEVERITIES):
                split = images.split(corruption, severity, count)
                digest.update(fingerprint(split).encode())
                logits = predict_logits(network, split.images, batch_size)
                errors[row, column] = 1 - scores.accuracy(logits, split.labels)
                progress.update(count)
    return errors, digest.hexdigest()


def means(errors: Errors) -> dict[str, float]:
    """Returns the mean corruption errors over the benchmark's 15 and over all 19."""
    return {
        f"mean_corruption_error_{count}": float(errors[:count].mean())
        for count in (len(BENCHMARK), len(CORRUPTIONS))
    }


def scalars(errors: Errors) -> dict[str, float]:
    """Returns the means, and the mean and the errors by severity of each corruption."""
    values = means(errors)
    for corruption, row in zip(CORRUPTIONS, errors, strict=True):
        values[corruption] = float(row.mean())
        for severity, error in zip(SEVERITIES, row, strict=True):
            values[f"{corruption}/{severity}"] = float(error)
    return values


def rows(errors: Errors) -> dict[str, Float[np.ndarray, " columns"]]:
    """Returns the rows of the table by name: the error in % at each severity, the mean.

    The benchmark's corruptions are followed by their mean; the last row is the mean
    over all.
    """
    percent = 100 * np.column_stack([errors, errors.mean(axis=1)])
    found = dict(zip(CORRUPTIONS, percent, strict=True))
    extra = {name: found.pop(name) for name in CORRUPTIONS[len(BENCHMARK) :]}
    found[f"mean of these {len(BENCHMARK)}"] = percent[: len(BENCHMARK)].mean(axis=0)
    return found | extra | {f"mean of all {len(CORRUPTIONS)}": percent.mean(axis=0)}


def table(errors: Errors) -> str:
    """Returns the errors as lines of text."""
    heads = [*(str(severity) for severity in SEVERITIES), "mean"]
    lines = [f"{'error in % at severity':<22}{''.join(f'{h:>7}' for h in heads)}"]
    for name, values in rows(errors).items():
        lines.append(f"{name:<22}{''.join(f'{value:>7.1f}' for value in values)}")
    return "\n".join(lines)


def headline(errors: Errors) -> str:
    """Returns the mean corruption errors in one line."""
    benchmark, every = means(errors).values()
    return (
        f"mean corruption error = {benchmark:.1%} over the benchmark's "
        f"{len(BENCHMARK)} corruptions, {every:.1%} over all {len(CORRUPTIONS)}"
    )


def contents(subject: report.Subject, errors: Errors, count: int) -> dict[str, Any]:
    """Returns the contents of the report, ready for JSON.

    Args:
        subject: what was evaluated.
        errors: the errors, from `evaluate`.
        count: number of images per corruption and severity.
    """
    return {
        "generator": report.GENERATOR,
        **dataclasses.asdict(subject),
        "num_images": errors.size * count,
        **means(errors),
        "severities": list(SEVERITIES),
        "errors": dict(zip(CORRUPTIONS, errors.tolist(), strict=True)),
    }


def write(
    directory: pathlib.Path, subject: report.Subject, errors: Errors, count: int
) -> pathlib.Path:
    """Writes the record and the picture, and returns the path of the picture.

    Args:
        directory: folder that has passed `report.check`; it is created if missing.
        subject: what was evaluated.
        errors: the errors, from `evaluate`.
        count: number of images per corruption and severity.

    Raises:
        RunError: the files cannot be written.
    """
    # Imported here because matplotlib takes a second and only reports need it.
    from cifar_jax.evaluation import corruption_plot

    text = report.as_json(contents(subject, errors, count))
    picture = corruption_plot.draw(subject, errors, count)
    report.write_files(directory, {RECORD: text, PICTURE: picture})
    return directory / PICTURE


def shown(picture: pathlib.Path) -> dict[str, UInt8[np.ndarray, "h w 3"]]:
    """Returns the picture of a report by name, for writers.

    Args:
        picture: its path, as returned by `write`.
    """
    return {"corruptions": np.asarray(Image.open(picture).convert("RGB"))}
