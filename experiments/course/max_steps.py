"""Do more steps help? The course ends with "max_steps up, precision up ???".

    python -m experiments.course.max_steps --data_dir=DIR --out_dir=runs

For each seed, trains the tutorial with the real command and evaluates it after --steps,
with averaged and with raw parameters; the first seed continues through --long_steps.
Prints a table, and writes max_steps.json, .csv and .png to --results_dir. An
interrupted experiment resumes where it left off. Takes about 50 minutes on one core
with the defaults.
"""

import pathlib
from typing import Any

from absl import flags
from matplotlib.figure import Figure

from cifar_jax import read_run
from experiments.harness import common, machine, output, plots, runs

KINDS = {"test": "averaged parameters", "test_raw": "raw parameters"}

# The header of the tutorial's cifar10_train.py claims "~86% at 60K steps" and "~86% at
# 100K steps", on two GPUs.
CLAIM = ([60_000, 100_000], [0.86, 0.86])

FLAGS = flags.FLAGS


def run(seed: int, stops: list[int]) -> list[dict[str, Any]]:
    """Returns a row for each stop, with averaged and with raw parameters."""
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
    """Returns the precisions of all seeds by step, for averaged or raw parameters."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if row["parameters"] == kind:
            found.setdefault(row["steps"], []).append(row["precision"])
    return found


def report(rows: list[dict[str, Any]]) -> str:
    """Returns a row for each number of steps, with mean, sd and number of seeds."""
    averaged, raw = (by_steps(rows, kind) for kind in KINDS.values())
    lines = [
        [f"{steps:,}", runs.mean(averaged[steps]), runs.mean(raw[steps])]
        for steps in averaged
    ]
    return output.table(["max_steps", *KINDS.values()], lines)


def draw(record: dict[str, Any]) -> Figure:
    """Draws precision over steps, with a line per seed and kind of parameters."""
    rows = record["rows"]
    figure = plots.figure(5, "max_steps up, precision up?")
    axis = figure.subplots()
    for kind, style in zip(KINDS.values(), plots.STYLES, strict=False):
        label: str | None = kind
        for seed in sorted({row["seed"] for row in rows}):
            of = [r for r in rows if (r["parameters"], r["seed"]) == (kind, seed)]
            steps, values = zip(
                *((r["steps"], r["precision"]) for r in of), strict=True
            )
            axis.plot(steps, values, lw=1, label=label, **style)
            label = None
    axis.plot(*CLAIM, "*", color="black", ms=11, label="the tutorial's claim")
    ticks = sorted({row["steps"] for row in rows} | set(CLAIM[0]))
    axis.set(
        xscale="log",
        xlabel="max_steps (batches of 128), log scale\n"
        f"a line is a run: {runs_of(rows)}\n{record['data']['source']}",
        ylabel="precision @ 1 on the test images",
    )
    axis.set_xticks(ticks, [f"{steps:,}" for steps in ticks], rotation=30)
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure


def runs_of(rows: list[dict[str, Any]]) -> str:
    """Returns the number of runs at each number of steps, such as "n = 3 to step 5"."""
    counts = {
        steps: len(values) for steps, values in by_steps(rows, KINDS["test"]).items()
    }
    ends = {count: steps for steps, count in counts.items()}
    return ", ".join(f"n = {n} to step {end:,}" for n, end in ends.items())


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_list(
        "steps", "100,200,500,1000,2000", "Steps at which to evaluate each seed."
    )
    flags.DEFINE_list("long_steps", "5000,10000", "More steps for the first seed.")
    flags.DEFINE_integer("seeds", 3, "Number of seeds, from 0.", lower_bound=1)
    flags.DEFINE_string(
        "out_dir", "results/max_steps", "Directory for runs, one folder per run."
    )
    output.define_results_dir()
    flags.DEFINE_boolean(
        "quick", False, "Run one seed for a few steps, in about a minute."
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
    record = {"machine": facts, "data": runs.source(made), "rows": rows}
    output.write(record, directory / "max_steps.json")
    output.write_rows(rows, directory / "max_steps.csv")
    output.write_figure(draw(record), directory / "max_steps.png")


if __name__ == "__main__":
    common.run(main, define_flags, draw)
