"""How much of a training step do image distortions take?

    python -m experiments.speed.distortions --recipes=sprint --json=parts.json

Alternately times the distortions and normalization of a batch alone, and the whole
step, on random images. Prints the medians over the rounds, and their ratio. Takes about
two minutes on 2 cores.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import flags

from cifar_jax import Batch, Config, build_program, compiler_options, init_state
from cifar_jax import train_step as take_step
from cifar_jax.config.recipes import RECIPES
from cifar_jax.training.steps import distort
from experiments.harness import common, machine, output

FLAGS = flags.FLAGS


def durations(recipe: str, rounds: int) -> dict[str, list[float]]:
    """Returns the milliseconds of each round, for the distortions and the step."""
    config = Config(recipe=recipe)
    random = np.random.RandomState(0)
    # Enough for networks that initialize from images.
    images = random.randint(0, 256, (5000, 32, 32, 3), dtype=np.uint8)
    labels = random.randint(0, 10, config.batch_size)
    batch = Batch.from_arrays(images[: config.batch_size], labels)
    program = build_program(config, 10)
    state = init_state(program, jax.random.key(0), images)
    options = compiler_options()
    functions: dict[str, Callable[..., Any]] = {
        "distortions": distort,
        "step": take_step,
    }
    compiled = {
        name: jax.jit(function, static_argnums=0, compiler_options=options)
        for name, function in functions.items()
    }
    found: dict[str, list[float]] = {name: [] for name in compiled}
    for _ in range(1 + rounds):
        for name, function in compiled.items():
            began = time.perf_counter()
            jax.block_until_ready(function(program, state, batch))
            found[name].append(1000 * (time.perf_counter() - began))
    # The first round compiles.
    return {name: times[1:] for name, times in found.items()}


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_list("recipes", ["tutorial", "sprint", "airbench94"], "Recipes.")
    flags.DEFINE_integer("rounds", 5, "Timed runs.", lower_bound=1)
    flags.register_validator(
        "recipes",
        lambda names: set(names) <= set(RECIPES),
        message=f"choose from {', '.join(RECIPES)}",
    )


def main(argv: list[str]) -> None:
    """Measures, prints and saves the durations."""
    del argv
    facts = machine.machine() | {"device": machine.device()}
    print(output.describe(facts), flush=True)
    rows, records = [], []
    for recipe in FLAGS.recipes:
        found = durations(recipe, FLAGS.rounds)
        medians = [float(np.median(times)) for times in found.values()]
        shares = np.array(found["distortions"]) / np.array(found["step"])
        spread = f"{np.median(shares):.3f} ({shares.min():.3f}-{shares.max():.3f})"
        rows.append([recipe, *(f"{median:.1f}" for median in medians), spread])
        records.append({"recipe": recipe} | found)
    print(output.table(["recipe", "distortions, ms", "step, ms", "share"], rows))
    measured: dict[str, Any] = {"rounds": FLAGS.rounds, "recipes": records}
    output.keep({"machine": facts} | measured)


if __name__ == "__main__":
    common.run(main, define_flags)
