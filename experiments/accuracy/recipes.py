"""How accurate is each recipe, and each network without one, and at what cost?

    python -m experiments.accuracy.recipes --data_dir=DIR --json=recipes.json

Trains and evaluates each one with the real commands, once per seed. Prints a table, and
plots the precisions next to the JSON file. An interrupted experiment resumes where it
left off.

The full recipes, --full, need a GPU; REDUCED defines how they are shortened for a CPU.
"""

import dataclasses
import itertools
import pathlib
import shlex
from typing import Any

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from cifar_jax import Config, UserError, read_run
from experiments.harness import common, machine, output, plots, runs

# Networks without a recipe, and the recipe that each one is run with.
NETWORKS = {
    "vgg16": "vgg16_bn",
    "vgg19": "vgg16_bn",
    "vgg19_bn": "vgg16_bn",
    "resnet50": "resnet18",
    "mobilenet": "resnet18",
}


@dataclasses.dataclass(frozen=True)
class Reduced:
    """How a recipe is run on a CPU.

    Attributes:
        flags: The flags that shorten it.
        seeds: The number of seeds, from 0.
    """

    flags: tuple[str, ...] = ()
    seeds: int = 1


# Schedules scale with --max_steps. An epoch is 390.6 steps.
_FIVE_EPOCHS = "--max_steps=1955"
REDUCED = {
    "tutorial": Reduced(("--max_steps=1000",), seeds=3),
    "cuda_convnet_18pct": Reduced((_FIVE_EPOCHS,), seeds=3),
    "cuda_convnet_11pct": Reduced((_FIVE_EPOCHS,), seeds=3),
    "vgg16_bn": Reduced((_FIVE_EPOCHS,)),
    "resnet18": Reduced((_FIVE_EPOCHS,)),
}

FLAGS = flags.FLAGS


def command(name: str) -> list[str]:
    """Returns the flags for a recipe or network, including those that shorten it."""
    found = [f"--recipe={NETWORKS.get(name, name)}"]
    if name in NETWORKS:
        found.append(f"--model={name}")
    if FLAGS.max_steps:
        found.append(f"--max_steps={FLAGS.max_steps}")
    elif not FLAGS.full:
        found += REDUCED.get(name, Reduced()).flags
    if FLAGS.batch_size:
        found.append(f"--batch_size={FLAGS.batch_size}")
    return found + words(FLAGS.train_flags)


def words(text: str) -> list[str]:
    """Returns the flags in a text, split as a shell splits them.

    Raises:
        UserError: a quotation is not closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UserError(f"--train_flags={text}: {error}") from error


def run(name: str) -> dict[str, Any]:
    """Returns the results of a recipe or network over its seeds."""
    results = []
    for seed in range(FLAGS.seeds or REDUCED.get(name, Reduced()).seeds):
        train_dir = pathlib.Path(FLAGS.out_dir) / name / f"seed{seed}"
        train_flags = [
            *command(name),
            f"--seed={seed}",
            f"--dataset={FLAGS.dataset}",
            f"--data_dir={FLAGS.data_dir}",
        ]
        figures = runs.train_and_evaluate(train_dir, train_flags)
        figures["precision"] = figures["precision"]["test"]
        figures["evaluations"] = runs.evaluations(train_dir, "test")
        results.append({"seed": seed} | figures)
        print(
            f"{name}, seed {seed}: precision @ 1 = {figures['precision']:.4f} after "
            f"{figures['train_seconds'] / 60:.1f} minutes",
            flush=True,
        )
    made = read_run(train_dir)
    return {
        "name": name,
        "command": " ".join(command(name)),
        "steps": made.config.max_steps,
        "steps_of_the_recipe": Config(recipe=made.config.recipe).max_steps,
        "batch_size": made.config.batch_size,
        "data": runs.source(made),
        "results": results,
    }


def report(records: list[dict[str, Any]]) -> str:
    """Returns a table with a row for each record."""
    header = ["flags", "parameters", "steps", "of", "minutes", "precision"]
    rows = []
    for record in records:
        results = record["results"]
        precision = [result["precision"] for result in results]
        minutes = [result["train_seconds"] / 60 for result in results]
        rows.append(
            [
                f"`{record['command']}`",
                f"{results[0]['parameters']:,}",
                f"{record['steps']:,}",
                f"{record['steps_of_the_recipe']:,}",
                f"{min(minutes):.1f} to {max(minutes):.1f}",
                runs.mean(precision),
            ]
        )
    return output.table(header, rows)


def draw(record: dict[str, Any]) -> Figure:
    """Draws the precision of each seed over minutes.

    If runs were evaluated during training, lines over epochs show these evaluations.
    """
    recipes = record["recipes"]
    # Evaluations in the last epoch alone do not make a curve.
    on_the_way = any(
        result["evaluations"][0][0] < 0.9 * one["steps"]
        for one in recipes
        for result in one["results"]
    )
    figure = plots.figure(4.8, "How accurate is each recipe, and at what cost?")
    *before, last = figure.subplots(1, 1 + on_the_way, sharey=True, squeeze=False)[0]
    labels = []
    for one, style in zip(recipes, itertools.cycle(plots.STYLES), strict=False):
        results = one["results"]
        precision = [result["precision"] for result in results]
        epochs = one["steps"] * one["batch_size"] / 50_000
        minutes = [result["train_seconds"] / 60 for result in results]
        whole = one["steps"] == one["steps_of_the_recipe"]
        length = "all" if whole else f"{one['steps']:,} of"
        label = (
            f"{one['name']}: {np.mean(precision):.3f} ({plots.count([results])})\n"
            f"{length} {one['steps_of_the_recipe']:,} steps"
        )
        labels.append((float(np.mean(precision)), label, style))
        last.plot(minutes, precision, ls="", **style)
        for axis in before:
            for result in results:
                curve = np.array(result["evaluations"])
                seen = curve[:, 0] * one["batch_size"] / 50_000
                axis.plot(seen, curve[:, 1], lw=1, color=style["color"])
            axis.plot([epochs] * len(results), precision, ls="", **style)
    for axis in before:
        axis.set_xlabel("epochs, log scale")
    last.set_xlabel("minutes of training, log scale")
    for axis in (*before, last):
        plots.logarithmic(axis)
        axis.grid(alpha=0.3)
    (*before, last)[0].set_ylabel("precision @ 1 on the test images")
    plots.label_at_right(figure, last, labels)
    about = f"{machine.name(record['machine'])}; {recipes[0]['data']['source']}"
    figure.supxlabel(f"a dot is a run; {about}", fontsize=10)
    return figure


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_list("recipes", [*REDUCED], "Recipes to run, or networks without one.")
    flags.DEFINE_integer(
        "seeds",
        0,
        "Number of seeds, from 0; at 0, as in REDUCED, or 1.",
        lower_bound=0,
    )
    flags.DEFINE_integer("max_steps", 0, "Steps per run; at 0, as in REDUCED.")
    flags.DEFINE_integer("batch_size", 0, "Images per step; at 0, as in the recipe.")
    flags.DEFINE_boolean("full", False, "Run the full recipes.")
    flags.DEFINE_string(
        "train_flags", "", "Additional flags for every run, such as '--use_fp16'."
    )
    flags.DEFINE_string("out_dir", "results/recipes", "Directory for runs.")


def main(argv: list[str]) -> None:
    """Runs all recipes; prints, saves and plots the results."""
    del argv
    for name in FLAGS.recipes:
        Config(recipe=NETWORKS.get(name, name))  # Refuses unknown names.
    facts = machine.machine() | {"device": machine.isolated(machine.device)}
    print(output.describe(facts), flush=True)
    records: list[dict[str, Any]] = []
    for name in FLAGS.recipes:
        records.append(run(name))
        # Saves the results so far, in case the next recipe fails or runs out of time.
        output.keep({"machine": facts, "recipes": records}, draw)
    print(f"\n{report(records)}")


if __name__ == "__main__":
    common.run(main, define_flags, draw)
