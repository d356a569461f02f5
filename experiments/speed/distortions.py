"""How much of a training step do image distortions take?

    python -m experiments.speed.distortions --recipes=sprint --json=parts.json
    python -m experiments.speed.distortions --distortions=flip --distortions=augmix

Alternately times the distortions and normalization of a batch alone, and the whole
step, on random images. Each --distortions is timed in place of those of the recipe, all
of them in turn. Prints the medians over the rounds, and their ratio. Takes about two
minutes on 2 cores.
"""

import functools
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


def functions(config: Config) -> dict[str, Callable[[], Any]]:
    """Returns what to time: the distortions of a batch, and the step."""
    random = np.random.RandomState(0)
    # Enough for networks that initialize from images.
    images = random.randint(0, 256, (5000, 32, 32, 3), dtype=np.uint8)
    labels = random.randint(0, 10, config.batch_size)
    batch = Batch.from_arrays(images[: config.batch_size], labels)
    program = build_program(config, 10)
    state = init_state(program, jax.random.key(0), images)
    options = compiler_options()

    def compiled(function: Callable[..., Any]) -> Callable[[], Any]:
        jitted = jax.jit(function, static_argnums=0, compiler_options=options)
        return functools.partial(jitted, program, state, batch)

    return {"distortions": compiled(distort), "step": compiled(take_step)}


def durations(configs: list[Config], rounds: int) -> list[dict[str, list[float]]]:
    """Returns the milliseconds of each round, for the distortions and the step."""
    timed = [functions(config) for config in configs]
    found: list[dict[str, list[float]]] = [
        {name: [] for name in each} for each in timed
    ]
    for _ in range(1 + rounds):
        for each, times in zip(timed, found, strict=True):
            for name, function in each.items():
                began = time.perf_counter()
                jax.block_until_ready(function())
                times[name].append(1000 * (time.perf_counter() - began))
    # The first round compiles.
    return [{name: times[1:] for name, times in each.items()} for each in found]


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_list("recipes", ["tutorial", "sprint", "airbench94"], "Recipes.")
    flags.DEFINE_multi_string(
        "distortions", [], "Distortions in place of the recipe's; may be repeated."
    )
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
        changes = [{"distortions": text} for text in FLAGS.distortions] or [{}]
        configs = [Config(recipe=recipe, **change) for change in changes]
        measured = durations(configs, FLAGS.rounds)
        for config, found in zip(configs, measured, strict=True):
            medians = [f"{np.median(times):.1f}" for times in found.values()]
            shares = np.array(found["distortions"]) / np.array(found["step"])
            spread = f"{np.median(shares):.3f} ({shares.min():.3f}-{shares.max():.3f})"
            rows.append([recipe, config.distortions, *medians, spread])
            records.append({"recipe": recipe, "applied": config.distortions} | found)
    header = ["recipe", "distortions", "distortions, ms", "step, ms", "share"]
    print(output.table(header, rows))
    output.keep({"machine": facts, "rounds": FLAGS.rounds, "recipes": records})


if __name__ == "__main__":
    common.run(main, define_flags)
