"""Draws the curves of a comparison: training loss and precision over steps."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cifar_jax.console import one_line
from cifar_jax.evaluation.comparison import SPLITS, Compared
from cifar_jax.evaluation.comparison_table import title

# Okabe and Ito's, which color-blind readers can tell apart, but gray for their yellow,
# which is too faint on white.
_COLORS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7"),
    *("#e69f00", "#56b4e9", "#000000", "#999999"),
)
_STYLES = {
    "test": {"ls": "-", "marker": "o"},
    "validation": {"ls": "--", "marker": "s"},
}


def draw(records: Sequence[Compared]) -> Figure:
    """Draws the training loss and every evaluation by steps.

    Args:
        records: from `comparison.compared`; at most `comparison.MOST_CURVES`.
    """
    figure = Figure(figsize=(10, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for record, color in zip(records, _COLORS, strict=False):
        loss = record["loss"]
        _curve(left, loss["steps"], loss["total_loss"], color=color)
        for split in SPLITS:
            found = (record["evaluations"][split] or {"all": []})["all"]
            steps = [evaluation["step"] for evaluation in found]
            values = [evaluation["precision_at_1"] for evaluation in found]
            _curve(right, steps, values, color=color, ms=5, **_STYLES[split])
    left.set(title="Training loss", ylabel="total loss, moving average")
    right.set(title="Precision @ 1, averaged parameters", ylabel="precision @ 1")
    for axis in (left, right):
        _finish(axis)
    _explain_styles(right, records)
    _name_runs(figure, records)
    return figure


def _curve(axis: Axes, steps: list[int], values: list[float], **style: Any) -> None:
    if len(steps) == 1:
        style = {"marker": "o"} | style
    if steps:
        axis.plot(steps, values, lw=1.5, **style)


def _finish(axis: Axes) -> None:
    axis.set_xlabel("steps")
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.locator_params(axis="x", integer=True, nbins=6)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    if not axis.lines:
        axis.set(xticks=[], yticks=[])
        axis.set_title(f"{axis.get_title()}: none recorded")


def _explain_styles(axis: Axes, records: Sequence[Compared]) -> None:
    """Says of which images the precisions are."""
    used = [s for s in SPLITS if any(r["evaluations"][s] for r in records)]
    if not used:
        return
    for split in used:
        style: dict[str, Any] = _STYLES[split] | {
            "color": "0.4",
            "label": f"{split} images",
        }
        axis.plot([], [], **style)
    axis.legend(loc="lower right")


def _name_runs(figure: Figure, records: Sequence[Compared]) -> None:
    """Names the colors below both panels."""
    keys = [
        Line2D([], [], color=color, lw=3)
        for _, color in zip(records, _COLORS, strict=False)
    ]
    # The names come later: a legend leaves out those that begin with an underscore.
    blank = [str(number) for number in range(len(keys))]
    legend = figure.legend(
        keys, blank, loc="outside lower center", ncols=min(4, len(keys))
    )
    for text, record in zip(legend.get_texts(), records, strict=True):
        text.set(text=_short(one_line(title(record))), parse_math=False)


def _short(name: str) -> str:
    """Returns the end of a long name, which is where paths differ."""
    return name if len(name) <= 28 else f"...{name[-25:]}"
