"""The table of a comparison, and the notes below it."""

import itertools
import math
import shlex
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cifar_jax.config.flags import format_value
from cifar_jax.console import to_one_line
from cifar_jax.evaluation.comparison import SPLITS, Compared

# A narrower column would be unreadable.
_NARROWEST = 12
_GAP = 2


def table(records: Sequence[Compared], width: int) -> str:
    """Returns a table of the records, with one column per run.

    Cells are wrapped to fit the width. Runs that do not fit side by side follow below
    in a separate table.

    Args:
        records: records from `comparison.compare`.
        width: width of the terminal, in characters.
    """
    rows = _rows(records)
    labels = max(len(label) for label, _ in rows) + _GAP
    most = max(1, (width - labels) // (_NARROWEST + _GAP))
    beside = math.ceil(len(records) / math.ceil(len(records) / most))
    room = max(_NARROWEST, (width - labels) // beside - _GAP)
    blocks = []
    for start in range(0, len(records), beside):
        part = [(label, cells[start : start + beside]) for label, cells in rows]
        blocks.append(_block(part, labels, room))
    return "\n\n".join(blocks)


def _block(rows: Sequence[tuple[str, list[str]]], labels: int, room: int) -> str:
    """Returns rows as lines, with columns as wide as needed, up to a limit.

    Args:
        rows: for each row, a label and a cell for each run.
        labels: the width of the labels.
        room: the maximum width of a column.
    """
    wrapped = [
        (label, [textwrap.wrap(cell, room) or [""] for cell in cells])
        for label, cells in rows
    ]
    widths = [
        max(len(line) for _, cells in wrapped for line in cells[column])
        for column in range(len(rows[0][1]))
    ]
    lines = []
    for label, cells in wrapped:
        for head, *words in itertools.zip_longest([label], *cells, fillvalue=""):
            padded = [
                word.ljust(w + _GAP) for word, w in zip(words, widths, strict=True)
            ]
            lines.append(f"{head:<{labels}}{''.join(padded)}".rstrip())
    return "\n".join(lines)


def _rows(records: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    """Returns the rows of the table, each a label and a cell for each run."""

    def row(label: str, cell: Callable[[Any], str]) -> tuple[str, list[str]]:
        return label, [to_one_line(cell(record)) for record in records]

    rows = [row("", title)]
    rows += [
        (
            name,
            [to_one_line(format_value(record["settings"][name])) for record in records],
        )
        for name in records[0]["settings"]
    ]
    if any(record["other_pixels"] for record in records):
        rows.append(row("pixels (SHA-256)", lambda r: r["data_fingerprint"][:12]))
    rows += [
        row("steps", lambda r: f"{r['steps']:,}"),
        row("  of max_steps", lambda r: f"{r['max_steps']:,}"),
        row("minutes trained", lambda r: _number(r["minutes"], ".1f")),
        row("examples/s", lambda r: _number(r["examples_per_second"], ",.0f")),
    ]
    for split in SPLITS:
        found = [record["evaluations"][split] for record in records]
        if split == "test" or any(found):
            rows += _precision(f"{split} precision", found, "last")
        if _have_several(found):
            rows += _precision(f"best on {split}", found, "best")
    return rows


def _precision(
    label: str, found: Sequence[dict[str, Any] | None], which: str
) -> list[tuple[str, list[str]]]:
    """Returns the rows for the last or the best evaluation of each run."""
    chosen = [evaluations and evaluations[which] for evaluations in found]

    names = dict.fromkeys(name for e in chosen if e for name in e["metrics"])

    def row(label: str, cell: Callable[..., str]) -> tuple[str, list[str]]:
        return label, [cell(e) if e else "-" for e in chosen]

    return [
        row(label, lambda e: f"{e['precision_at_1']:.3f}"),
        row(
            "  95% interval",
            lambda e: "{:.3f}-{:.3f}".format(*e["precision_at_1_interval_95"]),
        ),
        row("  at step", lambda e: f"{e['step']:,}"),
        *(
            row(
                f"  {name}", lambda e, name=name: _number(e["metrics"].get(name), ".4g")
            )
            for name in names
        ),
    ]


def title(record: Compared) -> str:
    """Returns the name of a run, marked if its pixels differ from the first run's."""
    mark = " *" if record["other_pixels"] else ""
    return f"{record['name']}{mark}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def notes(records: Sequence[Compared], width: int) -> str:
    """Returns what readers of the table need to know, and the evaluations left to do.

    Args:
        records: records from `comparison.compare`.
        width: width of the terminal, in characters; commands are not wrapped.
    """
    found = [
        "precision: @ 1, of the averaged parameters, on all images of the split; the "
        "interval accounts for the sample of images, not for the seed",
        "minutes, examples/s: excluding compilation, checkpoints and stops; repeated "
        "steps count once",
    ]
    if _have_several(record["evaluations"]["test"] for record in records):
        found.append(
            "best on test: chosen by the test images themselves, so it is optimistic; "
            "choose by eval --eval_data=validation instead"
        )
    first = records[0]
    for record in records:
        if record["other_pixels"]:
            found.append(
                f"{title(record)}: trained on different pixels than {first['name']}, "
                f"so their precisions are not comparable: {record['data_source']}; "
                f"{first['name']}: {first['data_source']}"
            )
    lines = [
        textwrap.fill(to_one_line(note), width, subsequent_indent="  ")
        for note in found
    ]
    for record in records:
        lines += _left_to_do(record)
    return "\n".join(lines)


def _left_to_do(record: Compared) -> list[str]:
    """Returns lines about a run's missing evaluation, with the command for it."""
    tested = record["evaluations"]["test"]
    if record["saved"] is None:
        return [to_one_line(f"{title(record)}: has no checkpoint to evaluate")]
    if tested is not None and tested["last"]["step"] >= record["saved"]:
        return []
    flag = shlex.quote(f"--checkpoint_dir={record['run']}")
    return [
        to_one_line(f"{title(record)}: not evaluated at step {record['saved']:,}:"),
        f"  python -m cifar_jax.eval {to_one_line(flag)}",
    ]


def _have_several(found: Iterable[dict[str, Any] | None]) -> bool:
    """Returns whether any run was evaluated more than once, so there is a choice."""
    return any(split and len(split["all"]) > 1 for split in found)
