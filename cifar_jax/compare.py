"""Compares training runs: python -m cifar_jax.compare RUN...

RUN is the folder of a run, its --train_dir. The command prints a table with the
settings that differ, the steps, the time and speed of training, and the precision @ 1
of the evaluations in RUN/eval; with --plot=FILE, it also plots the curves. Runs that
were trained on different pixels are marked. If runs differ only in their seeds, a
second table has means over seeds, and a paired test against the first run's setting.
"""

from cifar_jax import startup

if __name__ == "__main__":
    startup.prepare()

import json
import pathlib
import shutil
from collections.abc import Sequence

import jax
from absl import flags

from cifar_jax import command, console
from cifar_jax.errors import UserError
from cifar_jax.evaluation import comparison, comparison_table, plot_files
from cifar_jax.evaluation.comparison import GENERATOR, MOST_CURVES, Compared
from cifar_jax.runs import run_dir
from cifar_jax.runs.run_dir import Run
from cifar_jax.studies import groups, report

# The narrowest and the widest table; without a terminal, the widest is used.
_WIDTHS = 60, 120


def main(arguments: Sequence[str]) -> int:
    """Runs the command and returns its exit status."""
    options = flags.FLAGS
    if not arguments:
        raise UserError("no run given: python -m cifar_jax.compare RUN...")
    plot = None if options.plot is None else pathlib.Path(options.plot)
    if plot is not None:
        _check_plot(plot, len(arguments))
    records = comparison.compare([comparison.read(run) for run in _runs(arguments)])
    if options.json:
        console.say(*json.dumps(records, indent=2, allow_nan=False).splitlines())
    else:
        low, high = _WIDTHS
        width = min(max(low, shutil.get_terminal_size((high, 24)).columns), high)
        console.say(*comparison_table.table(records, width).splitlines())
        console.say("", *comparison_table.notes(records, width).splitlines())
        _say_groups(records)
    if plot is not None:
        _write_plot(plot, records)
        if not options.json:
            console.say(f"curves plotted in {plot}")
    return 0


def _say_groups(records: Sequence[Compared]) -> None:
    """Prints a table by setting for each split with several seeds of one."""
    for split in comparison.SPLITS:
        rows = groups.by_setting(records, split)
        if any(row.summary and row.summary.n > 1 for row in rows):
            notes = report.notes(rows, split, 0, several=True)
            console.say("", *report.table(rows, split).splitlines(), "", *notes)


def _runs(paths: Sequence[str]) -> list[Run]:
    """Returns the runs in these directories, which must all be different."""
    runs: dict[pathlib.Path, Run] = {}
    for path in paths:
        run = run_dir.read(path)
        same = runs.setdefault(run.path.resolve(), run)
        if same is not run:
            raise UserError(f"{same.path} and {path} are the same run; name it once")
    return list(runs.values())


def _check_plot(path: pathlib.Path, count: int) -> None:
    """Raises UserError unless the curves of this many runs can be drawn in a file."""
    plot_files.check(path, "plot", GENERATOR)
    if count > MOST_CURVES:
        raise UserError(
            f"--plot can show at most {MOST_CURVES} runs, but there are {count}; name "
            "fewer, or omit --plot"
        )


def _write_plot(path: pathlib.Path, records: Sequence[Compared]) -> None:
    # Imported here because matplotlib takes a second and only plots need it.
    from cifar_jax.evaluation import comparison_plot

    plot_files.write(comparison_plot.draw(records), path, "plot", GENERATOR)


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_boolean("json", False, "Print everything as JSON, curves included.")
    command.define_path(
        "plot",
        None,
        "File (.png or .svg) for a plot of training loss and precision over steps, for "
        "up to 8 runs. An earlier plot there is replaced.",
    )


if __name__ == "__main__":
    # Printing asks JAX for its devices; a GPU may be busy with one of the runs.
    jax.config.update("jax_platforms", "cpu")
    command.run(main, define_flags, __doc__)
