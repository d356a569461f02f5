"""How much faster are more devices, and what does their all-reduce cost?

    python -m experiments.devices.multi_device_scaling --data_dir=DIR --json=FILE.json

Times training steps on 1, 2, 4, ... devices, with a fixed global batch size (strong
scaling) and with a fixed batch size per device (weak scaling). Each case is also timed
without averaging the gradients; the difference is the collective's share. Prints two
tables and plots them next to the JSON file. On a machine without GPUs, the devices are
fake and share its cores, so ideal strong scaling is a flat line, and anything below it
is the cost of dividing the work. Takes about 4 minutes on 2 cores with the defaults.
"""

import time
from typing import Any

import numpy as np
from absl import flags
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.harness import common, machine, output, plots

STEPS_PER_CALL = 5
# The timed programs, and their labels in the figure.
PROGRAMS = {
    "seconds_per_step": "training",
    "seconds_without_collective": "without averaging the gradients",
}

FLAGS = flags.FLAGS


def seconds_a_step(
    devices: int, batch_size: int, calls: int, dataset: str, data_dir: str
) -> tuple[list[float], list[float]]:
    """Returns the seconds per step of each call, with and without averaging gradients.

    A single device has nothing to average, so the second list is empty.
    """
    import jax

    from cifar_jax import Config, build_program, load_data
    from cifar_jax.devices import sharding
    from cifar_jax.devices.share import WHOLE
    from cifar_jax.devices.strategies import Pmap
    from cifar_jax.training import initial
    from cifar_jax.training.compiled import CompiledSteps

    class Alone(Pmap):
        """Each device trains on its own: useless results, but the same work."""

        share = WHOLE  # type: ignore[assignment]

    data = load_data(dataset, data_dir or None)
    program = build_program(Config(batch_size=batch_size), len(data.class_names))
    found: dict[type[Pmap], list[float]] = {Pmap: []}
    if devices > 1:
        found[Alone] = []
    runs = {}
    for kind in found:
        strategy = kind(sharding.create_mesh(devices))
        state = initial.create(program, 0, data.train.images, strategy.mesh)
        steps = CompiledSteps(
            program, data.train, batch_size, state, STEPS_PER_CALL, strategy
        )
        runs[kind] = steps, state
    for call in range(1 + calls):
        for kind, (steps, state) in runs.items():
            began = time.perf_counter()
            first = call * STEPS_PER_CALL
            state, _ = steps.train_steps(state, first, first + STEPS_PER_CALL)
            jax.block_until_ready(state)
            found[kind].append((time.perf_counter() - began) / STEPS_PER_CALL)
            runs[kind] = steps, state
    # The first call is a warm-up.
    return found[Pmap][1:], found.get(Alone, [])[1:]


def measure(devices: int, batch_size: int) -> dict[str, Any]:
    """Measures one case."""
    arguments = (devices, batch_size, FLAGS.calls, FLAGS.dataset, FLAGS.data_dir)
    seconds, alone = machine.isolated(seconds_a_step, *arguments)
    print(f"{devices} devices, batch {batch_size}: {1e3 * np.median(seconds):.1f} ms")
    return {
        "devices": devices,
        "batch_size": batch_size,
        "seconds_per_step": seconds,
        "seconds_without_collective": alone,
    }


def rate(case: dict[str, Any], name: str = "seconds_per_step") -> float:
    """Returns the examples/s of the median call."""
    return case["batch_size"] / float(np.median(case[name]))


def share(case: dict[str, Any]) -> str:
    """Returns the collective's share of a step as text; empty for one device."""
    if not case["seconds_without_collective"]:
        return ""
    found = 1 - rate(case) / rate(case, "seconds_without_collective")
    return f"{found:.0%}" if found > 0 else "within noise"


def report(cases: list[dict[str, Any]]) -> str:
    """Returns a table; its second-to-last column is relative to the first row."""
    rows = [
        [
            str(case["devices"]),
            str(case["batch_size"]),
            f"{1e3 * np.median(case['seconds_per_step']):.1f}",
            f"{rate(case):.0f}",
            f"{rate(case) / rate(cases[0]):.2f}",
            share(case),
        ]
        for case in cases
    ]
    columns = ["devices", "batch", "ms/step", "examples/s", "vs. first row"]
    return output.table([*columns, "collective's share"], rows)


def draw(record: dict[str, Any]) -> Figure:
    """Draws throughput over the number of devices, with and without the collective."""
    title = "How much faster are more devices, and what does their all-reduce cost?"
    figure = plots.figure(4.6, title)
    axes = figure.subplots(1, 2, sharey=True)
    for axis, kind in zip(axes, ("strong", "weak"), strict=True):
        draw_panel(axis, record[kind])
        batch = record[kind][0]["batch_size"]
        each = "in total" if kind == "strong" else "per device"
        axis.set_title(f"{kind} scaling: {batch} images {each}", fontsize=10)
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("examples/s")
    facts = record["machine"]
    fake = "fake devices on " if facts["device"].startswith("cpu") else ""
    calls = len(record["strong"][0]["seconds_per_step"])
    dots = f"a dot is the median of {calls} calls, a bar their range"
    if calls == 1:
        dots = "n = 1: no spread is known"
    figure.supxlabel(f"{dots}; {fake}{machine.name(facts)}", fontsize=10)
    return figure


def draw_panel(axis: Axes, cases: list[dict[str, Any]]) -> None:
    """Draws one kind of scaling."""
    for (name, label), style in zip(PROGRAMS.items(), plots.STYLES, strict=False):
        shown = [case for case in cases if case[name]]
        rates = [case["batch_size"] / np.array(case[name]) for case in shown]
        middle = np.array([np.median(calls) for calls in rates])
        ends = np.array([[calls.min(), calls.max()] for calls in rates]).T
        several = any(len(calls) > 1 for calls in rates)
        axis.errorbar(
            [case["devices"] for case in shown],
            middle,
            np.abs(ends - middle) if several else None,
            capsize=3,
            label=label,
            **style,
        )
    devices = [case["devices"] for case in cases]
    axis.set_xscale("log", base=2)
    axis.set_xticks(devices, [str(value) for value in devices])
    axis.set_xlabel("devices")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, loc="lower right")


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_integer("batch_size", 128, "Global batch size, strong scaling.")
    flags.DEFINE_integer("batch_size_each", 32, "Batch size per device, weak scaling.")
    flags.DEFINE_list("devices", [], "Device counts; default 1, 2, 4, ...")
    flags.DEFINE_integer(
        "calls", 5, f"Timed calls of {STEPS_PER_CALL} steps.", lower_bound=1
    )


def main(argv: list[str]) -> None:
    """Measures, prints, saves and plots all cases."""
    del argv
    facts = machine.machine() | {"device": machine.isolated(machine.device)}
    print(output.describe(facts), flush=True)
    counts = machine.device_counts(FLAGS.devices)
    groups = {
        "strong": [measure(n, FLAGS.batch_size) for n in counts],
        "weak": [measure(n, n * FLAGS.batch_size_each) for n in counts],
    }
    for name, cases in groups.items():
        print(f"\n{name} scaling\n{report(cases)}")
    output.keep({"machine": facts} | groups, draw)


if __name__ == "__main__":
    common.run(main, define_flags, draw)
