"""Does this match the precision of TensorFlow's tutorial after 1,000 steps?

    python -m experiments.fidelity --data_dir=DIR --out_dir=fidelity

Trains and evaluates each seed with the real commands, prints the mean and spread of
precision @ 1, and writes fidelity.json and fidelity.png to --results_dir. An
interrupted experiment resumes where it stopped. Takes about 2 minutes per seed on 2
cores.
"""

import datetime
import os
import pathlib
import platform
import time

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from cifar_jax import read_run
from experiments import common, output, runs
from experiments.runs import spread

# The tutorial ported to TensorFlow 2.21, five unseeded runs of 1,000 steps on the
# archive made from JPEG copies, 2026-11-22.
TENSORFLOW = (0.601, 0.601, 0.602, 0.597, 0.598)

FLAGS = flags.FLAGS


def run_seed(seed: int) -> dict:
    """Trains and evaluates one seed; returns its figures."""
    flags_ = [
        f"--seed={seed}",
        f"--max_steps={FLAGS.max_steps}",
        f"--dataset={FLAGS.dataset}",
        f"--data_dir={FLAGS.data_dir}",
        f"--use_fp16={FLAGS.use_fp16}",
        f"--ops={FLAGS.ops}",
    ]
    train_dir = pathlib.Path(FLAGS.out_dir) / f"seed{seed}"
    figures = runs.train_and_evaluate(train_dir, flags_, ("test", "test_raw"))
    precision = figures.pop("precision")
    both = {"precision": precision["test"], "precision_raw": precision["test_raw"]}
    return {"seed": seed} | both | figures


def plot(results: list[dict], path: pathlib.Path) -> None:
    """Plots the loss of each seed, and the precisions next to TensorFlow's."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[2, 1])
    for result in results:
        left.plot(
            *zip(*result["loss"], strict=True), lw=1, label=f"seed {result['seed']}"
        )
    left.set(
        xlabel="step", ylabel="total loss", title="Training loss, one batch per point"
    )
    left.legend(frameon=False)
    columns = {
        "TensorFlow": TENSORFLOW,
        "cifar_jax\naveraged": [r["precision"] for r in results],
        "cifar_jax\nraw": [r["precision_raw"] for r in results],
    }
    for x, values in enumerate(columns.values()):
        right.plot([x] * len(values), values, "o", alpha=0.6)
        right.plot([x - 0.2, x + 0.2], [np.mean(values)] * 2, "k-")
    right.set_xticks(range(len(columns)), columns)
    right.set(xlim=(-0.5, 2.5), title=f"Precision @ 1 after {FLAGS.max_steps} steps")
    right.grid(axis="y", alpha=0.3)
    output.write_figure(figure, path)


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_integer("seeds", 5, "Number of seeds, from 0.", lower_bound=1)
    flags.DEFINE_integer("max_steps", 1000, "Steps per seed.", lower_bound=1)
    flags.DEFINE_string("out_dir", "fidelity", "Directory for runs, one folder each.")
    flags.DEFINE_string("results_dir", str(output.DIRECTORY), "Directory for results.")
    flags.DEFINE_boolean("use_fp16", False, "Same as for the train command.")
    flags.DEFINE_string("ops", "auto", "Same as for the train command.")


def main(argv: list[str]) -> None:
    """Runs every seed; prints, saves and plots the results."""
    del argv
    began = time.monotonic()
    results = []
    for seed in range(FLAGS.seeds):
        results.append(run_seed(seed))
        r = results[-1]
        print(
            f"seed {seed}: precision @ 1 = {r['precision']:.4f} "
            f"(raw parameters {r['precision_raw']:.4f}), "
            f"step-0 loss {r['step_0_loss']:.3f}, "
            f"median {r['examples_per_sec']} examples/sec",
            flush=True,
        )
    print(
        "precision @ 1, averaged parameters:", spread([r["precision"] for r in results])
    )
    print(
        "precision @ 1, raw parameters:", spread([r["precision_raw"] for r in results])
    )
    print("step-0 loss:", spread([r["step_0_loss"] for r in results]))
    if FLAGS.max_steps == 1000 and FLAGS.dataset == "cifar10":
        print("TensorFlow's tutorial:", spread(list(TENSORFLOW)))
    run = read_run(pathlib.Path(FLAGS.out_dir) / "seed0")
    record = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "data": runs.source(run),
        "max_steps": FLAGS.max_steps,
        "use_fp16": FLAGS.use_fp16,
        "ops": FLAGS.ops,
        "seconds": round(time.monotonic() - began),
        "results": results,
    }
    directory = pathlib.Path(FLAGS.results_dir)
    output.write(record, directory / "fidelity.json")
    plot(results, directory / "fidelity.png")


if __name__ == "__main__":
    common.run(main, define_flags)
