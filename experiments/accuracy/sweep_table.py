"""The table of a sweep: one row per run, the most precise first."""

import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

from cifar_jax import read_run
from cifar_jax.evaluation import comparison
from experiments.harness import output
from experiments.harness.jobs import Job

# The number of runs that fit side by side in a table of `compare`.
_COMPARED = 4


def ranked(jobs: Sequence[Job], directory: pathlib.Path) -> list[dict[str, Any]]:
    """Returns a record of each run, ready for JSON, the most precise first.

    `varied` has the settings. Finished runs also have all of `comparison.compare`; in
    the others, `diverged` or `failed` has the reason.
    """
    ended = [
        ({"name": job.name, "varied": job.task["settings"]} | job.result)
        for job in jobs
        if job.result is not None
    ]
    finished = [record for record in ended if "precision" in record]
    finished.sort(key=lambda record: -record["precision"]["precision_at_1"])
    runs = [read_run(directory / record["name"]) for record in finished]
    compared = (
        comparison.compare([comparison.read(run) for run in runs]) if runs else []
    )
    others = [
        record
        for outcome in ("diverged", "failed")
        for record in ended
        if outcome in record
    ]
    return [a | b for a, b in zip(finished, compared, strict=True)] + others


def table(records: Sequence[dict[str, Any]], split: str) -> str:
    """Returns the table; `records` are from `ranked`."""
    names = list(records[0]["varied"])
    header = [*names, f"{split} precision", "95% interval", "minutes"]
    rows = []
    for record in records:
        cells = [record["varied"][name] for name in names]
        if "precision" in record:
            precision, minutes = record["precision"], record["minutes"]
            cells += [
                f"{precision['precision_at_1']:.3f}",
                "{:.3f}-{:.3f}".format(*precision["precision_at_1_interval_95"]),
                "-" if minutes is None else f"{minutes:.1f}",
            ]
        else:
            cells += ["diverged" if "diverged" in record else "failed", "-", "-"]
        rows.append(cells)
    return output.table(header, rows)


def notes(records: Sequence[dict[str, Any]], split: str) -> str:
    """Returns notes on how to read the table, and how to learn more."""
    lines = [
        f"{record['name']}: {outcome}: {record[outcome]}"
        for record in records
        for outcome in ("diverged", "failed")
        if outcome in record
    ]
    finished = [record for record in records if "precision" in record]
    if not finished:
        return "\n".join(lines)
    first = finished[0]
    lines += [
        f"{record['name']}: trained on different pixels than {first['name']}, so their "
        "precisions are not comparable"
        for record in finished
        if record["other_pixels"]
    ]
    lines.append(
        f"precision @ 1 of the averaged parameters on {split} images; the interval "
        "reflects the choice of images, not of seeds"
    )
    if split == "test":
        lines.append(
            "the best run is chosen by the test images themselves, so its precision is "
            "optimistic; --validation_size=5000 in --train_flags holds images out"
        )
    else:
        lines.append(
            "the best precision is optimistic on the images that choose it; for test "
            "images: python -m cifar_jax.eval "
            + shlex.quote(f"--checkpoint_dir={first['run']}")
        )
    best = shlex.join(record["run"] for record in finished[:_COMPARED])
    lines.append(f"more about the best runs: python -m cifar_jax.compare {best}")
    return "\n".join(lines)
