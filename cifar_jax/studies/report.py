"""The table of a study: one row per setting, the best first."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cifar_jax import markdown
from cifar_jax.studies.statistics import Difference, Summary, difference, summarize

if TYPE_CHECKING:  # it needs Optuna, which `compare` does not
    from cifar_jax.studies.store import Tried


@dataclasses.dataclass(frozen=True)
class Row:
    """What a study found about a setting.

    Attributes:
        number: the number of the setting.
        setting: the text of each varied setting.
        precision: the precision of each seed that ended.
        others: for other seeds, why they have no precision.
        minutes: the minutes of training, of all seeds together; None if not recorded.
        num_examples: the number of images that it was evaluated on.
        summary: of the precisions; None if there are none.
        difference: from the baseline, by paired seeds; None for the baseline itself,
            and if there are no common seeds.
    """

    number: int
    setting: dict[str, str]
    precision: dict[int, float]
    others: dict[int, str]
    minutes: float | None
    num_examples: int | None
    summary: Summary | None
    difference: Difference | None


def rows(trials: "Sequence[Tried]", baseline: int) -> list[Row]:
    """Returns a row for each setting, those with the highest means first.

    Args:
        trials: the settings that were tried.
        baseline: the number of the one that the others are compared with.
    """
    of_baseline = next((_precision(t) for t in trials if t.number == baseline), {})
    found = []
    for tried in trials:
        results = tried.results
        numbers = (result.get("num_examples") for result in results.values())
        found.append(
            row(
                tried.number,
                tried.setting,
                _precision(tried),
                {} if tried.number == baseline else of_baseline,
                others={
                    seed: _reason(result)
                    for seed, result in results.items()
                    if "precision" not in result
                },
                minutes=total(r.get("minutes") for r in results.values()),
                num_examples=next(filter(None, numbers), None),
            )
        )
    return sorted(found, key=lambda row: -row.summary.mean if row.summary else 1)


def row(
    number: int,
    setting: dict[str, str],
    precision: dict[int, float],
    baseline: Mapping[int, float],
    **more: Any,
) -> Row:
    """Returns the row of a setting; see `Row`, and for `baseline`, `difference`."""
    return Row(
        number,
        setting,
        precision,
        summary=summarize(precision) if precision else None,
        difference=difference(precision, baseline),
        **more,
    )


def total(minutes: Iterable[float | None]) -> float | None:
    """Returns the sum of the minutes that are known, or None without any."""
    known = [each for each in minutes if each is not None]
    return math.fsum(known) if known else None


def _precision(tried: "Tried") -> dict[int, float]:
    return {
        seed: result["precision"]
        for seed, result in tried.results.items()
        if "precision" in result
    }


def _reason(result: dict[str, Any]) -> str:
    if "pruned" in result:
        return f"pruned at step {result['pruned']:,}"
    [(outcome, why)] = result.items()
    return f"{outcome}: {why}"


def table(found: Sequence[Row], split: str) -> str:
    """Returns the rows as a Markdown table."""
    names = list(found[0].setting)
    several = any(row.summary and row.summary.n > 1 for row in found)
    compared = any(row.difference for row in found)
    header = ["setting", *names, f"{split} precision", "n"]
    header += ["sd", "95% interval"] * several
    header += ["difference"] * compared + ["95% interval", "p"] * (compared and several)
    header += ["minutes"]
    lines = []
    for row in found:
        cells = [str(row.number), *row.setting.values()]
        if row.summary:
            s = row.summary
            cells += [f"{s.mean:.4f}", str(s.n)]
            cells += [_number(s.sd), _interval(s.interval)] * several
        else:
            why = next(iter(row.others.values()), "-")
            cells += [why.partition(":")[0], "0"] + ["-", "-"] * several
        d = row.difference
        cells += [f"{d.mean:+.4f}" if d else "-"] * compared
        if compared and several:
            cells += [_interval(d.interval, "+") if d else "-"]
            cells += [f"{d.p:.2g}" if d and d.p is not None else "-"]
        cells += ["-" if row.minutes is None else f"{row.minutes:.1f}"]
        lines.append(cells)
    return markdown.table(header, lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(bounds: tuple[float, float] | None, sign: str = "") -> str:
    if bounds is None:
        return "-"
    low, high = (format(bound, f"{sign}.4f") for bound in bounds)
    return f"{low} to {high}"


def notes(found: Sequence[Row], split: str, baseline: int, several: bool) -> list[str]:
    """Returns what readers of the table must know, as lines.

    Args:
        found: the rows of the table.
        split: the images of the evaluation.
        baseline: the number of the setting that others are compared with.
        several: whether settings have several seeds.
    """
    lines = [
        f"setting {row.number}, seed {seed}: {reason}"
        for row in found
        for seed, reason in row.others.items()
    ]
    lines.append(
        "precision: @ 1 of the averaged parameters, the mean over n seeds; sd and "
        "intervals are those of the seeds, not of the images"
        if several
        else "precision: @ 1 of the averaged parameters, of one seed; --seeds=5 tells "
        "differences from chance"
    )
    if any(row.difference for row in found):
        lines.append(
            f"difference: from setting {baseline}, in pairs with the same seed; "
            "p of the paired t-test, two-sided, not corrected for many tests"
        )
    counts = {row.num_examples for row in found if row.num_examples}
    if len(counts) > 1:
        lines.append(
            "precisions are not comparable: settings were evaluated on different "
            f"images, {' and '.join(map(str, sorted(counts)))} of them"
        )
    if split == "test":
        lines.append(
            "the best setting is chosen by the test images themselves, so its "
            "precision is optimistic; --validation_size=5000 holds images out"
        )
    else:
        lines.append(
            "the best precision is optimistic on the images that choose it; for test "
            "images: python -m cifar_jax.eval --checkpoint_dir=RUN"
        )
    return lines


def as_json(found: Sequence[Row], facts: dict[str, Any]) -> str:
    """Returns the rows, and facts about the study, as JSON."""
    record = facts | {"settings tried": [_record(row) for row in found]}
    return json.dumps(record, indent=1, allow_nan=False) + "\n"


def _record(row: Row) -> dict[str, Any]:
    record = dataclasses.asdict(row)
    for name in ("summary", "difference"):
        value = getattr(row, name)
        record[name] = None if value is None else value._asdict()
    return record


def as_csv(found: Sequence[Row]) -> str:
    """Returns a line for each run, as CSV: long form, as statistics programs want."""
    file = io.StringIO()
    names = list(found[0].setting)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["number", *names, "seed", "precision", "outcome"])
    for row in sorted(found, key=lambda row: row.number):
        cells = [row.number, *row.setting.values()]
        for seed, precision in row.precision.items():
            writer.writerow([*cells, seed, precision, "finished"])
        for seed, reason in row.others.items():
            writer.writerow([*cells, seed, "", reason])
    return file.getvalue()
