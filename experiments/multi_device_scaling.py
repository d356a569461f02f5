"""What do more devices gain, and what does their all-reduce cost?

    python -m experiments.multi_device_scaling --data_dir=DIR --json=multi_device.json

Times training steps on 1, 2, 4, ... devices, with a fixed global batch size (strong
scaling) and with a fixed batch size per device (weak scaling). Each is also timed
without averaging the gradients; the difference is the collective's share. Prints two
tables and plots them next to the JSON file. On a machine without GPUs the devices are
fake and share its cores, so ideal strong scaling is a flat line, and anything below it
is the cost of dividing the work. With the defaults this takes about 4 minutes on 2
cores.
"""

import pathlib
import time
from typing import Any

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from experiments import common, machine, output

STEPS_PER_CALL = 5

FLAGS = flags.FLAGS


def seconds_a_step(
    devices: int, batch_size: int, calls: int, dataset: str, data_dir: str
) -> tuple[float, float]:
    """Returns the median seconds per step with and without averaging gradients."""
    import jax

    from cifar_jax import Config, build_program, init_state, load_data
    from cifar_jax.devices import sharding
    from cifar_jax.devices.strategies import ShardMap
    from cifar_jax.training.compiled import CompiledSteps

    data = load_data(dataset, data_dir or None)
    program = build_program(Config(batch_size=batch_size), len(data.class_names))
    found: dict[str | None, list[float]] = {sharding.AXIS: [], None: []}
    runs = {}
    key, images = jax.random.key(0), data.train.images
    for axis_name in found:
        strategy = ShardMap(sharding.create_mesh(devices))
        # Without the axis name each device trains on its own: useless results, but the
        # same work without the collective.
        strategy.axis_name = axis_name
        state = sharding.create_replicated(
            strategy.mesh, lambda: init_state(program, key, images)
        )
        steps = CompiledSteps(
            program, data.train, batch_size, state, STEPS_PER_CALL, strategy
        )
        runs[axis_name] = steps, state
    for call in range(1 + calls):
        for axis_name, (steps, state) in runs.items():
            began = time.perf_counter()
            first = call * STEPS_PER_CALL
            state, _ = steps.train_steps(state, first, first + STEPS_PER_CALL)
            jax.block_until_ready(state)
            found[axis_name].append((time.perf_counter() - began) / STEPS_PER_CALL)
            runs[axis_name] = steps, state
    # The first call is a warm-up.
    with_, without = (float(np.median(times[1:])) for times in found.values())
    return with_, without


def measure(devices: int, batch_size: int) -> dict[str, Any]:
    """Measures one case."""
    arguments = (devices, batch_size, FLAGS.calls, FLAGS.dataset, FLAGS.data_dir)
    seconds, alone = machine.isolated(seconds_a_step, *arguments)
    case = {
        "devices": devices,
        "batch_size": batch_size,
        "seconds_per_step": seconds,
        "examples_per_sec": batch_size / seconds,
        "collective_share": 1 - alone / seconds,
    }
    print(f"{devices} devices, batch {batch_size}: {1e3 * seconds:.1f} ms", flush=True)
    return case


def report(cases: list[dict[str, Any]]) -> str:
    """Returns a table; the last column but one is relative to the first row."""
    rows = [
        [
            str(case["devices"]),
            str(case["batch_size"]),
            f"{case['seconds_per_step'] * 1000:.1f}",
            f"{case['examples_per_sec']:.0f}",
            f"{case['examples_per_sec'] / cases[0]['examples_per_sec']:.2f}",
            f"{case['collective_share']:.0%}",
        ]
        for case in cases
    ]
    columns = ["devices", "batch", "ms/step", "examples/s", "vs. first row"]
    return output.table([*columns, "collective's share"], rows)


def plot(groups: dict[str, list[dict[str, Any]]], path: pathlib.Path) -> None:
    """Plots throughput and the collective's share against the number of devices."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, cases in groups.items():
        devices = [case["devices"] for case in cases]
        left.plot(devices, [c["examples_per_sec"] for c in cases], "o-", label=name)
        share = [100 * case["collective_share"] for case in cases]
        right.plot(devices, share, "o-", label=name)
    for axis in (left, right):
        axis.set_xscale("log", base=2)
        axis.set_xticks(devices, [str(value) for value in devices])
        axis.set_xlabel("devices")
        axis.grid(alpha=0.3)
        axis.legend()
    left.set_ylim(bottom=0)
    left.set_ylabel("examples/s")
    right.set_ylabel("collective's share of a step, %")
    output.write_figure(figure, path)


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_integer("batch_size", 128, "Global batch size, strong scaling.")
    flags.DEFINE_integer("batch_size_each", 32, "Batch size per device, weak scaling.")
    flags.DEFINE_list("devices", [], "Numbers of devices; default 1, 2, 4, ...")
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
    output.keep({"machine": facts} | groups)
    if FLAGS.json:
        plot(groups, pathlib.Path(FLAGS.json).with_suffix(".png"))


if __name__ == "__main__":
    common.run(main, define_flags)
