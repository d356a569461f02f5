"""Which of XLA's libraries make a train step fast on a CPU?

    python -m experiments.speed.compiler_options --models=resnet18,vgg16_bn

jaxlib hands operations to YNNPACK by default. This times one whole train step of each
network, on images of noise, alternating between the default, YNNPACK without some types
of operations, and oneDNN. Prints the median milliseconds per step, and the speedup of
each choice over the default, with its range over the rounds.
"""

import functools
import time
from typing import Any

import jax
import numpy as np
from absl import flags

from cifar_jax import Batch, Config, build_program, init_state, train_step
from cifar_jax.config.recipes import RECIPES
from experiments.harness import common, machine, output

YNNPACK = "xla_cpu_experimental_ynn_fusion_type"
ONEDNN = "xla_cpu_experimental_onednn_custom_call"


def kinds(*names: str) -> str:
    """Returns the names of operation types in the format of the XLA option."""
    return ",".join(f"LIBRARY_FUSION_TYPE_{name.upper()}" for name in names)


CHOICES: dict[str, dict[str, Any]] = {
    "default": {},
    "no YNNPACK": {YNNPACK: ""},
    "YNNPACK's reduce": {YNNPACK: kinds("reduce")},
    "YNNPACK's dot": {YNNPACK: kinds("dot", "individual_dot")},
    "YNNPACK's dot and reduce": {YNNPACK: kinds("dot", "individual_dot", "reduce")},
    "the same and oneDNN": {
        YNNPACK: kinds("dot", "individual_dot", "reduce"),
        ONEDNN: True,
    },
}

FLAGS = flags.FLAGS


def times(model: str, batch_size: int, rounds: int) -> dict[str, list[float]]:
    """Returns the seconds per train step in each round, by choice."""
    recipe = model if model in RECIPES else "resnet18"
    config = Config(recipe=recipe, model=model)
    program = build_program(config, num_classes=10)
    random = np.random.RandomState(0)
    size = (batch_size, 32, 32, 3)
    images = random.randint(256, size=size, dtype=np.uint8)
    batch = Batch.from_arrays(images, random.randint(10, size=batch_size))
    state = init_state(program, jax.random.key(0), images)
    step = functools.partial(train_step, program)
    lowered = jax.jit(step).lower(state, batch)
    compiled = {
        name: lowered.compile(compiler_options=options)
        for name, options in CHOICES.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in compiled}
    for _ in range(1 + rounds):
        for name, take_step in compiled.items():
            began = time.perf_counter()
            jax.block_until_ready(take_step(state, batch))
            seconds[name].append(time.perf_counter() - began)
    # The first round is a warm-up.
    return {name: found[1:] for name, found in seconds.items()}


def summary(seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Returns milliseconds and the speedup over the default, with its range."""
    default = np.array(seconds["default"])
    figures = {}
    for name, found in seconds.items():
        ratios = default / np.array(found)
        figures[name] = {
            "milliseconds": round(1000 * float(np.median(found)), 1),
            "ratio": round(float(np.median(ratios)), 2),
            "lowest": round(float(ratios.min()), 2),
            "highest": round(float(ratios.max()), 2),
        }
    return figures


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_list(
        "models", ["tutorial", "resnet18", "vgg16_bn", "mobilenet"], "Networks to time."
    )
    flags.DEFINE_integer("batch_size", 128, "Images per step.", lower_bound=1)
    flags.DEFINE_integer("rounds", 5, "Steps timed for each choice.", lower_bound=1)


def main(argv: list[str]) -> None:
    """Measures, prints and saves a table for each network."""
    del argv
    facts = machine.machine() | {"device": machine.device()}
    print(output.describe(facts), flush=True)
    record: dict[str, Any] = {"machine": facts, "batch_size": FLAGS.batch_size}
    for model in FLAGS.models:
        figures = summary(times(model, FLAGS.batch_size, FLAGS.rounds))
        record[model] = figures
        rows = [
            [
                name,
                f"{found['milliseconds']:.0f}",
                f"{found['ratio']:.2f} ({found['lowest']:.2f}-{found['highest']:.2f})",
            ]
            for name, found in figures.items()
        ]
        header = [model, "ms/step", "speedup"]
        print(f"\n{output.table(header, rows)}", flush=True)
    output.keep(record)


if __name__ == "__main__":
    common.run(main, define_flags)
