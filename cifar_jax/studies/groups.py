"""Runs grouped by setting: those of a group differ only in their seeds."""

from collections.abc import Sequence

from cifar_jax.config.flags import format_value
from cifar_jax.evaluation.comparison import Compared
from cifar_jax.studies import report
from cifar_jax.studies.report import Row

# Settings whose values may differ within a group.
_SEED = "seed"


def by_setting(records: Sequence[Compared], split: str) -> list[Row]:
    """Returns a row for each setting, in the order of their first runs.

    The first one is the baseline. Runs that were not evaluated are left out; so are
    those that were trained on other pixels than the first, and repeated seeds.

    Args:
        records: the runs, from `comparison.compare`.
        split: the evaluation, test or validation.
    """
    groups: dict[tuple[tuple[str, str], ...], dict[int, Compared]] = {}
    for record in records:
        if record["evaluations"][split] is None or record["other_pixels"]:
            continue
        setting = {
            name: format_value(value)
            for name, value in record["settings"].items()
            if name != _SEED
        }
        runs = groups.setdefault(tuple(setting.items()), {})
        runs.setdefault(record["settings"].get(_SEED, 0), record)
    rows: list[Row] = []
    for number, (key, runs) in enumerate(groups.items()):
        precision = {
            seed: record["evaluations"][split]["last"]["precision_at_1"]
            for seed, record in runs.items()
        }
        first = next(iter(runs.values()))
        rows.append(
            report.row(
                number,
                dict(key),
                precision,
                rows[0].precision if rows else {},
                others={},
                minutes=report.total(record["minutes"] for record in runs.values()),
                num_examples=first["evaluations"][split]["last"]["num_examples"],
            )
        )
    return rows
