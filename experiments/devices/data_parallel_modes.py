"""Do jit and pmap compute the same results, and which is faster?

    python -m experiments.devices.data_parallel_modes --data_dir=DIR --json=modes.json

Takes 20 training steps in each mode on 1, 2, 4, ... devices, with one process per case.
Prints the throughput, and how far losses and parameters deviate from those of jit on
one device, relative to their norm. On a machine without GPUs, the devices are fake and
share its cores, so the comparison shows the overhead of each mode, not the speedup from
more devices. Takes about 4 minutes on 2 cores with the defaults.
"""

import time
from typing import Any

import numpy as np
from absl import flags

from cifar_jax.devices.strategies import STRATEGIES
from experiments.harness import common, machine, output

STEPS, STEPS_PER_CALL = 20, 5

FLAGS = flags.FLAGS

Trees = dict[str, list[np.ndarray]]


def take_steps(
    mode: str, devices: int, batch_size: int, dataset: str, data_dir: str
) -> tuple[float, Trees]:
    """Returns the seconds per step and the results; runs in `machine.isolated`."""
    import jax

    from cifar_jax import Config, build_program, load_data
    from cifar_jax.devices import sharding
    from cifar_jax.training import initial
    from cifar_jax.training.compiled import CompiledSteps

    data = load_data(dataset, data_dir or None)
    strategy = STRATEGIES[mode](sharding.create_mesh(devices))
    program = build_program(Config(batch_size=batch_size), len(data.class_names))
    state = initial.create(program, 0, data.train.images, strategy.mesh)
    steps = CompiledSteps(
        program, data.train, batch_size, state, STEPS_PER_CALL, strategy
    )
    losses, seconds = [], []
    for first in range(0, STEPS, STEPS_PER_CALL):
        began = time.perf_counter()
        state, now = steps.train_steps(state, first, first + STEPS_PER_CALL)
        losses.append(np.asarray(now["total_loss"]))
        seconds.append((time.perf_counter() - began) / STEPS_PER_CALL)
    trees = {
        "losses": losses,
        "parameters": state.params,
        "averages": state.averaged_variables["params"],
    }
    leaves = {
        name: [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
        for name, tree in trees.items()
    }
    # The first call is a warm-up.
    return float(np.median(seconds[1:])), leaves


def difference(found: Trees, expected: Trees) -> dict[str, float]:
    """Returns the relative norm of the difference for each kind of tensor."""

    def norm(leaves: list[np.ndarray]) -> float:
        return float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in leaves)))

    return {
        name: norm([a - b for a, b in zip(found[name], leaves, strict=True)])
        / norm(leaves)
        for name, leaves in expected.items()
    }


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_integer("batch_size", 64, "Global batch size.", lower_bound=1)
    flags.DEFINE_list("devices", [], "Device counts; default 1, 2, 4, ...")
    flags.DEFINE_list("modes", list(STRATEGIES), "Modes to compare.")


def main(argv: list[str]) -> None:
    """Runs every case; prints and saves the results."""
    del argv
    facts = machine.machine() | {"device": machine.isolated(machine.device)}
    print(output.describe(facts), flush=True)
    cases: list[dict[str, Any]] = []
    expected: Trees | None = None
    for devices in machine.device_counts(FLAGS.devices):
        for mode in FLAGS.modes:
            arguments = (mode, devices, FLAGS.batch_size, FLAGS.dataset, FLAGS.data_dir)
            seconds, found = machine.isolated(take_steps, *arguments)
            expected = expected or found
            case = {
                "mode": mode,
                "devices": devices,
                "examples_per_sec": FLAGS.batch_size / seconds,
                "difference": difference(found, expected),
            }
            cases.append(case)
            print(f"{mode} on {devices}: {case['examples_per_sec']:.0f} examples/s")
    rows = [
        [
            case["mode"],
            str(case["devices"]),
            f"{case['examples_per_sec']:.0f}",
            *(f"{value:.0e}" for value in case["difference"].values()),
        ]
        for case in cases
    ]
    names = list(cases[0]["difference"])
    print(
        f"\ndifferences from row 1 after {STEPS} steps, batch size {FLAGS.batch_size}:"
    )
    print(output.table(["mode", "devices", "examples/s", *names], rows))
    output.keep({"machine": facts, "batch_size": FLAGS.batch_size, "cases": cases})


if __name__ == "__main__":
    common.run(main, define_flags)
