"""How long do startup and evaluation take, and how much memory does training use?

    python -m experiments.speed.startup --data_dir=DIR

Times the real train command from launch to the log line for step 0, alternately with an
empty compilation cache and with the cache filled by that run, and records its peak
memory. Also times evaluation on the test set, once compiled. DIR should contain
prepared data, since unpacking an archive counts as startup. Takes about 2 minutes on 2
cores with the defaults.
"""

import tempfile
import time
from typing import Any

import numpy as np
from absl import flags

from experiments.harness import children, common, machine, output

FLAGS = flags.FLAGS


def start(cache: str) -> dict[str, float]:
    """Runs training once; returns the seconds to step 0's log line and peak memory."""
    with tempfile.TemporaryDirectory() as train_dir:
        command = children.train_command(
            f"--batch_size={FLAGS.batch_size}",
            f"--max_steps={FLAGS.max_steps}",
            f"--use_fp16={FLAGS.use_fp16}",
            f"--train_dir={train_dir}/run",
        )
        child = children.run_child(command, {"JAX_COMPILATION_CACHE_DIR": cache})
    return {"seconds": child.log[0][0], "peak_bytes": child.peak_bytes}


def evaluation(name: str, data_dir: str, use_fp16: bool, rounds: int) -> dict[str, Any]:
    """Times evaluation on the test set with initial parameters, once compiled."""
    import jax

    from cifar_jax import Config, build_program, evaluate, init_state, load_data
    from cifar_jax.training.trained import from_state

    dataset = load_data(name, data_dir or None)
    program = build_program(Config(use_fp16=use_fp16), len(dataset.class_names))
    state = init_state(program, jax.random.key(0), dataset.train.images)
    network = from_state(program, state, dataset)
    seconds = []
    for _ in range(1 + rounds):
        began = time.monotonic()
        evaluate(network, dataset.test)
        seconds.append(time.monotonic() - began)
    return {"images": len(dataset.test), "seconds": seconds[1:]}


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_integer("rounds", 3, "Number of cold and warm starts.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 128, "Images per step.", lower_bound=1)
    flags.DEFINE_integer("max_steps", 21, "Steps per run.", lower_bound=1)
    flags.DEFINE_boolean("use_fp16", False, "Same as for the train command.")


def main(argv: list[str]) -> None:
    """Measures, prints and saves the durations."""
    del argv
    facts = machine.machine() | {"device": machine.isolated(machine.device)}
    print(output.describe(facts), flush=True)
    starts: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for _ in range(FLAGS.rounds):
        with tempfile.TemporaryDirectory() as cache:
            for name, runs in starts.items():
                runs.append(start(cache))
                print(f"{name}: {runs[-1]['seconds']:.2f} s to step 0", flush=True)
    evaluated = machine.isolated(
        evaluation, FLAGS.dataset, FLAGS.data_dir, FLAGS.use_fp16, FLAGS.rounds
    )
    durations = {
        f"start, {name} cache": [run["seconds"] for run in runs]
        for name, runs in starts.items()
    }
    durations[f"evaluation of {evaluated['images']} images"] = evaluated["seconds"]
    rows = [
        [name, *(f"{f(values):.2f}" for f in (min, np.median, max))]
        for name, values in durations.items()
    ]
    peak = max(run["peak_bytes"] for runs in starts.values() for run in runs)
    print("\n" + output.table(["seconds", "min", "median", "max"], rows))
    print(f"peak memory of training: {peak / 1e9:.2f} GB")
    output.keep(
        {
            "machine": facts,
            "use_fp16": FLAGS.use_fp16,
            "starts": starts,
            "evaluation": evaluated,
            "peak_bytes": peak,
        }
    )


if __name__ == "__main__":
    common.run(main, define_flags)
