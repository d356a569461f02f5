"""Plots the curves of a comparison: training loss and precision over steps."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cifar_jax.console import to_one_line
from cifar_jax.evaluation.comparison import SPLITS, Compared
from cifar_jax.evaluation.comparison_table import title

# Each run has a color from Okabe and Ito's palette, which color-blind readers can tell
# apart, with gray in place of yellow, which is too faint on white; and a marker, for
# grayscale prints.
_RUNS: tuple[dict[str, Any], ...] = tuple(
    {"color": color, "marker": marker, "lw": 1.5, "ms": 6}
    for color, marker in (
        *(("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#cc79a7", "D")),
        *(("#e69f00", "P"), ("#56b4e9", "X"), ("#000000", "v"), ("#999999", "*")),
    )
)
# Curves for validation images are dashed, with empty markers.
_SPLITS: dict[str, dict[str, Any]] = {
    "test": {},
    "validation": {"ls": "--", "mfc": "white"},
}
# Markers on a loss curve.
_MARKERS = 8


def draw(records: Sequence[Compared]) -> Figure:
    """Plots the training loss and every evaluation over steps.

    Args:
        records: records from `comparison.compare`; at most `comparison.MOST_CURVES`.
    """
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    for number, (record, style) in enumerate(zip(records, _RUNS, strict=False)):
        loss = record["loss"]
        every = -(-len(loss["steps"]) // _MARKERS) or 1
        # Markers are at different steps, for curves that begin alike.
        marked = (number * every // len(records), every)
        _curve(left, loss["steps"], loss["total_loss"], markevery=marked, **style)
        for split in SPLITS:
            found = (record["evaluations"][split] or {"all": []})["all"]
            steps = [evaluation["step"] for evaluation in found]
            values = [evaluation["precision_at_1"] for evaluation in found]
            _curve(right, steps, values, **style | _SPLITS[split])
    left.set(title="Training loss", ylabel="total loss")
    right.set(title="Precision @ 1, averaged parameters", ylabel="precision @ 1")
    for axis in (left, right):
        _finish(axis)
    _explain_splits(figure, records)
    _name_runs(figure, records)
    return figure


def _curve(axis: Axes, steps: list[int], values: list[float], **style: Any) -> None:
    if steps:
        axis.plot(steps, values, **style)


def _finish(axis: Axes) -> None:
    axis.set_xlabel("steps")
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    if axis.lines:
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.locator_params(axis="x", integer=True, nbins=6)
    else:
        axis.set_yticks([])
        axis.set_title(f"{axis.get_title()}: none recorded")


def _explain_splits(figure: Figure, records: Sequence[Compared]) -> None:
    """Adds a legend of splits above the panels."""
    used = [s for s in SPLITS if any(r["evaluations"][s] for r in records)]
    keys = [
        Line2D([], [], **_RUNS[0] | {"color": "0.3"} | _SPLITS[split]) for split in used
    ]
    if used:
        names = [f"{split} images" for split in used]
        figure.legend(keys, names, loc="outside upper right", ncols=2, frameon=False)


def _name_runs(figure: Figure, records: Sequence[Compared]) -> None:
    """Names the runs below the panels, and explains the mark next to names."""
    keys = [Line2D([], [], **style) for _, style in zip(records, _RUNS, strict=False)]
    # Names are set later, since a legend omits names that begin with an underscore.
    blank = [str(number) for number in range(len(keys))]
    legend = figure.legend(
        keys, blank, loc="outside lower center", ncols=min(4, len(keys)), frameon=False
    )
    for text, record in zip(legend.get_texts(), records, strict=True):
        text.set(text=_short(to_one_line(title(record))), parse_math=False)
    if any(record["other_pixels"] for record in records):
        first = _short(to_one_line(records[0]["name"]))
        legend.set_title("x")  # makes the title visible
        legend.get_title().set(
            text=f"* trained on different pixels than {first}: not comparable",
            parse_math=False,
        )


def _short(name: str) -> str:
    """Returns the end of a long name, where paths differ."""
    return name if len(name) <= 28 else f"...{name[-25:]}"
