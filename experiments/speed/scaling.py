"""How does training speed depend on the batch size and on the number of cores?

    python -m experiments.speed.scaling --data_dir=DIR --json=scaling.json

Runs the real train command for each batch size on all cores, and at batch size 128 on
the first 1, 2, 4, ... of them. Prints two tables and plots them next to the JSON file.
Summaries are off, since they cost time per step and not per image. On a GPU or TPU, the
number of cores is not varied. Takes about 6 minutes on 2 cores with the defaults.
"""

import functools
import os
from typing import Any

from absl import flags
from matplotlib.figure import Figure

from cifar_jax.studies.side_by_side import available_cores
from experiments.harness import children, common, machine, output, plots

FLAGS = flags.FLAGS


@functools.cache
def measure(batch_size: int, cores: tuple[int, ...]) -> dict[str, Any]:
    """Measures one case; cached, since both tables may include it."""
    every = children.LOG_FREQUENCY
    steps = max(1, FLAGS.images // batch_size // every) * every
    command = children.train_command(
        f"--batch_size={batch_size}",
        f"--max_steps={every + steps + 1}",
        f"--summary_frequency={every + steps + 1}",
        f"--use_fp16={FLAGS.use_fp16}",
        "--train_dir=",
    )
    child = children.run_child(command, cores=cores)
    rate = children.throughput(child, batch_size, every, steps)
    return {
        "batch_size": batch_size,
        "cores": len(cores),
        "examples_per_sec": rate,
        "seconds_per_step": batch_size / rate,
        "peak_bytes": child.peak_bytes,
    }


def numbers_of_cores(available: int) -> list[int]:
    """Returns --cores, or 1, 2, 4, ... and the number of available cores."""
    if FLAGS.cores:
        return [int(number) for number in FLAGS.cores]
    powers = [1 << i for i in range(available.bit_length())]
    return sorted({*powers, available})


def report(cases: list[dict[str, Any]], by: str) -> str:
    """Returns a table of cases that differ in `by`, with ratios to the first case."""
    rows = [
        [
            str(case[by]),
            f"{case['examples_per_sec']:.0f}",
            f"{case['seconds_per_step'] * 1000:.1f}",
            f"{case['peak_bytes'] / 1e9:.2f} GB",
            f"{case['examples_per_sec'] / cases[0]['examples_per_sec']:.2f}",
        ]
        for case in cases
    ]
    header = [by, "examples/s", "ms/step", "memory", f"vs. {by} {cases[0][by]}"]
    return output.table(header, rows)


def draw(record: dict[str, Any]) -> Figure:
    """Draws examples/s over the batch size and the number of cores."""
    groups = {by: record[by] for by in ("batch_size", "cores") if by in record}
    title = "How does training speed depend on the batch size and the cores?"
    figure = plots.figure(4.4, title)
    axes = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axis, (by, cases) in zip(axes, groups.items(), strict=True):
        x = [case[by] for case in cases]
        rates = [case["examples_per_sec"] for case in cases]
        axis.plot(x, rates, label="one run each (n = 1)", **plots.STYLES[0])
        if by == "cores":
            ideal = [rates[0] * cores / x[0] for cores in x]
            axis.plot(x, ideal, "--", color="0.4", label="proportional to the cores")
        axis.set_xscale("log", base=2)
        axis.set_xticks(x, [f"{value:,}" for value in x])
        first = cases[0]
        axis.set_xlabel(
            f"cores, at batch size {first['batch_size']}"
            if by == "cores"
            else f"batch size, on {first['cores']} cores"
        )
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, loc="lower right")
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("examples/s")
    axes[0].yaxis.set_major_formatter("{x:,.0f}")
    precision = "bfloat16" if record["use_fp16"] else "float32"
    figure.supxlabel(f"{precision}; {machine.name(record['machine'])}", fontsize=10)
    return figure


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_list("batch_sizes", "32,64,128,256,512,1024", "Batch sizes to time.")
    flags.DEFINE_list("cores", [], "Core counts to time; default 1, 2, 4, ...")
    flags.DEFINE_integer(
        "cores_batch_size", 128, "Batch size when the number of cores varies."
    )
    flags.DEFINE_integer("images", 20_000, "Approximate number of images per case.")
    flags.DEFINE_boolean("use_fp16", False, "Same as for the train command.")


def main(argv: list[str]) -> None:
    """Measures, prints, saves and plots all cases."""
    del argv
    facts = machine.machine() | {"device": machine.isolated(machine.device)}
    print(output.describe(facts), flush=True)
    available = tuple(available_cores())
    groups = {
        "batch_size": [measure(int(size), available) for size in FLAGS.batch_sizes]
    }
    if facts["device"].startswith("cpu") and hasattr(os, "sched_setaffinity"):
        groups["cores"] = [
            measure(FLAGS.cores_batch_size, available[:number])
            for number in numbers_of_cores(len(available))
        ]
    for by, cases in groups.items():
        print(f"\n{report(cases, by)}")
    output.keep({"machine": facts, "use_fp16": FLAGS.use_fp16} | groups, draw)


if __name__ == "__main__":
    common.run(main, define_flags, draw)
