"""Draws the errors on CIFAR-10-C as a heat map."""

import io
import textwrap

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cifar_jax.console import to_one_line
from cifar_jax.data.cifar.robustness import BENCHMARK, SEVERITIES
from cifar_jax.evaluation import corruption, report


def draw(subject: report.Subject, errors: corruption.Errors, count: int) -> bytes:
    """Returns the table of errors as a PNG heat map; darker cells are worse.

    Args:
        subject: what was evaluated.
        errors: the errors, from `corruption.evaluate`.
        count: number of images per corruption and severity.
    """
    rows = corruption.rows(errors)
    cells = np.array(list(rows.values()))
    margins = ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.1)
    figure = Figure(figsize=(7.5, 10), layout=margins)
    axis = figure.subplots()
    # The scale is fixed so that plots of two networks can be compared.
    image = axis.imshow(cells, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(cells):
        # Either color has a contrast of at least 4.5.
        color = "white" if value > 72 else "black"
        axis.text(column, row, f"{value:.1f}", ha="center", va="center", color=color)
    names = [name.replace("_", " ") for name in rows]
    axis.set_yticks(range(len(names)), names)
    axis.set_xticks(range(cells.shape[1]), [*map(str, SEVERITIES), "mean"])
    axis.set_xlabel("severity")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    # Gaps around the means.
    for edge in (len(BENCHMARK), len(BENCHMARK) + 1, len(names) - 1):
        axis.axhline(edge - 0.5, color="white", linewidth=5)
    axis.axvline(len(SEVERITIES) - 0.5, color="white", linewidth=5)
    figure.colorbar(image, label="misclassified images in %", shrink=0.5)
    figure.suptitle(_title(subject, errors, count), fontsize=10, parse_math=False)
    file = io.BytesIO()
    # The metadata is near the start of the file, where `report.check` looks for it.
    figure.savefig(file, format="png", dpi=110, metadata={"Software": report.GENERATOR})
    return file.getvalue()


def _title(subject: report.Subject, errors: corruption.Errors, count: int) -> str:
    """Returns title lines that fit the width of the picture."""
    whole = subject.examples_in_split // errors.size
    which = f"the first {count:,} of {whole:,}" if count < whole else f"all {whole:,}"
    facts = [
        "Errors on CIFAR-10-C, in %",
        f"{subject.run}, step {subject.step}, {subject.parameters} parameters, "
        f"{which} images of each corruption and severity",
        corruption.headline(errors),
        *subject.notices,
    ]
    return "\n".join(textwrap.fill(to_one_line(fact), 90) for fact in facts)
