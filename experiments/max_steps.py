"""Do more steps help? The course ends with "max_steps up, precision up ???".

    python -m experiments.max_steps --data_dir=DIR --out_dir=runs

Trains the tutorial with the real command and evaluates it after --steps, for each seed,
with averaged and with raw parameters; the first seed continues through --long_steps.
Prints a table, and writes max_steps.json, .csv and .png to --results_dir. An
interrupted experiment resumes where it stopped. With the defaults this takes about 50
minutes on one core.
"""

import pathlib
from typing import Any

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from cifar_jax import read_run
from experiments import common, machine, output, runs

KINDS = {"test": "averaged parameters", "test_raw": "raw parameters"}

FLAGS = flags.FLAGS


def run(seed: int, stops: list[int]) -> list[dict[str, Any]]:
    """Returns a row for each stop and kind of parameters."""
    train_dir = pathlib.Path(FLAGS.out_dir) / f"seed{seed}"
    rows = []
    for stop in stops:
        done = {name: runs.evaluated(train_dir, name, stop) for name in KINDS}
        found = {name: value for name, value in done.items() if value is not None}
        if found.keys() != KINDS.keys():
            train_flags = [
                f"--seed={seed}",
                f"--dataset={FLAGS.dataset}",
                f"--data_dir={FLAGS.data_dir}",
                f"--max_steps={stop}",
            ]
            figures = runs.train_and_evaluate(train_dir, train_flags, list(KINDS))
            found = figures["precision"]
        shared = {
            "seed": seed,
            "steps": stop,
            "train_seconds": runs.train_seconds(train_dir / "log.txt", stop),
        }
        rows += [
            shared | {"parameters": kind, "precision": found[name]}
            for name, kind in KINDS.items()
        ]
        text = ", ".join(f"{found[name]:.4f} ({kind})" for name, kind in KINDS.items())
        print(f"seed {seed}, step {stop}: precision @ 1 = {text}", flush=True)
    return rows


def by_steps(rows: list[dict[str, Any]], kind: str) -> dict[int, list[float]]:
    """Returns the precisions of all seeds by step, for one kind of parameters."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if row["parameters"] == kind:
            found.setdefault(row["steps"], []).append(row["precision"])
    return found


def report(rows: list[dict[str, Any]]) -> str:
    """Returns a row for each number of steps, with mean, sd and number of seeds."""
    averaged, raw = (by_steps(rows, kind) for kind in KINDS.values())

    def cell(values: list[float]) -> str:
        deviation = f"sd {runs.deviation(values):.3f}, " if len(values) > 1 else ""
        return f"{np.mean(values):.3f} ({deviation}n {len(values)})"

    lines = [
        [f"{steps:,}", cell(averaged[steps]), cell(raw[steps])] for steps in averaged
    ]
    return output.table(["max_steps", *KINDS.values()], lines)


def plot(rows: list[dict[str, Any]], source: str, path: pathlib.Path) -> None:
    """Plots precision over steps, with a dot for each seed and a line for the mean."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    for kind, color in zip(KINDS.values(), ("C0", "C1"), strict=True):
        found = by_steps(rows, kind)
        means = [np.mean(values) for values in found.values()]
        axis.plot(list(found), means, "-", color=color, label=kind)
        for steps, values in found.items():
            axis.plot([steps] * len(values), values, "o", color=color, alpha=0.5, ms=4)
    axis.set(
        xscale="log",
        xlabel=f"max_steps (batches of 128)\n{source}",
        ylabel="precision @ 1 on the test images",
        title="max_steps up, precision up?",
    )
    axis.set_xticks(list(found), [f"{steps:,}" for steps in found])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    output.write_figure(figure, path)


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_list(
        "steps", "100,200,500,1000,2000", "Steps at which to evaluate each seed."
    )
    flags.DEFINE_list("long_steps", "5000,10000", "Further steps for the first seed.")
    flags.DEFINE_integer("seeds", 3, "Number of seeds, from 0.", lower_bound=1)
    flags.DEFINE_string("out_dir", "max_steps", "Directory for runs, one folder each.")
    flags.DEFINE_string("results_dir", str(output.DIRECTORY), "Directory for results.")
    flags.DEFINE_boolean(
        "quick", False, "Run one seed for a few steps: about a minute."
    )


def main(argv: list[str]) -> None:
    """Runs every seed; prints, saves and plots the results."""
    del argv
    steps, longer = (
        [int(n) for n in words] for words in (FLAGS.steps, FLAGS.long_steps)
    )
    seeds = FLAGS.seeds
    if FLAGS.quick:
        steps, longer, seeds = [2, 4], [6], 1
    facts = machine.machine() | {"device": machine.isolated(machine.device)}
    print(output.describe(facts), flush=True)
    rows = [
        row
        for seed in range(seeds)
        for row in run(seed, steps + (longer if seed == 0 else []))
    ]
    print(f"\n{report(rows)}")
    made = read_run(pathlib.Path(FLAGS.out_dir) / "seed0")
    directory = pathlib.Path(FLAGS.results_dir)
    data = runs.source(made)
    record = {"machine": facts, "data": data, "rows": rows}
    output.write(record, directory / "max_steps.json")
    output.write_rows(rows, directory / "max_steps.csv")
    plot(rows, data["source"], directory / "max_steps.png")


if __name__ == "__main__":
    common.run(main, define_flags)
