"""Tables, JSON, CSV and figures that experiments print and write."""

import csv
import io
import json
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from cifar_jax.errors import UserError
from cifar_jax.markdown import table as table
from cifar_jax.runs.files import write_atomically

if TYPE_CHECKING:  # a child's peak memory starts from its parent's
    from matplotlib.figure import Figure

# Draws the figure for an experiment's record.
Draw = Callable[[dict[str, Any]], "Figure"]
FLAGS = flags.FLAGS


def define_results_dir() -> None:
    """Defines --results_dir; results quoted in the docs are next to the experiments."""
    flags.DEFINE_string(
        "results_dir",
        "results",
        "Folder for results. Those quoted in the docs are in the folder of the same "
        "name next to each experiment, such as experiments/course/results.",
    )


def without_paths(source: str) -> str:
    """Removes this machine's directories from a description of the data."""
    return re.sub(r"\S*/", "", source)


def describe(facts: dict[str, Any]) -> str:
    """Returns the entries as one line of text."""
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def keep(record: dict[str, Any], draw: Draw | None = None) -> None:
    """Writes the record to --json, if given, and its figure next to it."""
    if FLAGS.json:
        path = pathlib.Path(FLAGS.json)
        write(record, path)
        if draw:
            write_figure(draw(record), path.with_suffix(".png"))


def redraw(draw: Draw, path: pathlib.Path) -> None:
    """Draws the figure for an earlier record and writes it next to the record.

    Raises:
        UserError: the file cannot be read or is not a record of this experiment.
    """
    try:
        figure = draw(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"--redraw={path}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"--redraw={path} is not a result of this experiment; pass a .json file "
            "that the experiment wrote"
        ) from error
    picture = path.with_suffix(".png")
    write_figure(figure, picture)
    print(f"drew {picture}")


def write(record: dict[str, Any], path: pathlib.Path) -> None:
    """Writes the record as JSON, creating its directory if needed."""
    _write(path, json.dumps(record, indent=1) + "\n")


def write_rows(rows: Sequence[dict[str, Any]], path: pathlib.Path) -> None:
    """Writes rows that share their keys as CSV, creating the directory if needed."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    _write(path, file.getvalue())


def write_figure(figure: "Figure", path: pathlib.Path, dpi: int = 110) -> None:
    """Writes a figure as PNG, creating its directory if needed."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    _write(path, file.getvalue())


def _write(path: pathlib.Path, contents: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, contents)
