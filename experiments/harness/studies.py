"""Code shared by the studies: variants of one training run, each with several seeds.

A variant changes the config or uses a network that the study registers under its own
name. Runs use `fit`, so they resume where they left off.
"""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from cifar_jax import (
    Config,
    Dataset,
    Trained,
    command,
    fit,
    load_data,
    predict_logits,
)
from cifar_jax.metrics import scores
from experiments.harness import machine, output, plots, runs

FLAGS = flags.FLAGS
# Makes --help list the flags defined here as those of the running study.
flags.disclaim_key_flags()

# The splits on which every run is evaluated.
SPLITS = ("test", "train_eval")


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_integer("seeds", 2, "Number of seeds, from 0.", lower_bound=1)
    flags.DEFINE_integer("max_steps", 2000, "Steps per run.", lower_bound=1)
    flags.DEFINE_string(
        "out_dir", "results/studies", "Directory for runs, one folder per run."
    )
    output.define_results_dir()
    flags.DEFINE_boolean(
        "quick", False, "Run one seed for four steps, in a few minutes."
    )


@dataclasses.dataclass(frozen=True)
class Variant:
    """A training run that differs from the tutorial's.

    Attributes:
        name: The name shown in tables and plots.
        changes: The config fields that it changes.
    """

    name: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def settings() -> dict[str, Any]:
    """Returns the settings shared by all runs; with --quick, cheap ones."""
    if FLAGS.quick:
        return {"max_steps": 4, "batch_size": 8, "ops": "plain"}
    return {"max_steps": FLAGS.max_steps}


def run(
    variants: Sequence[Variant],
    measure: Callable[[Trained, Dataset], dict[str, Any]] = lambda *_: {},
) -> dict[str, Any]:
    """Trains and evaluates every variant; returns the record of the study.

    Args:
        variants: The variants, each of which is run with every seed.
        measure: Returns further metrics of a trained network.
    """
    dataset = load_data(FLAGS.dataset, FLAGS.data_dir or None)
    command.print_banner(dataset.notice)
    seeds = range(1 if FLAGS.quick else FLAGS.seeds)
    trainings = [(variant, seed) for seed in seeds for variant in variants]
    rows = []
    for number, (variant, seed) in enumerate(trainings, start=1):
        print(f"{number} of {len(trainings)}: {variant.name}, seed {seed}", flush=True)
        rows.append(_figures(variant, seed, dataset, measure))
    return {
        "machine": machine.machine() | {"device": machine.device()},
        "data": {
            "source": output.without_paths(dataset.source),
            "fingerprint": dataset.fingerprint,
        },
        "settings": settings(),
        "variants": {v.name: dict(v.changes) for v in variants},
        "rows": rows,
    }


def _figures(
    variant: Variant,
    seed: int,
    dataset: Dataset,
    measure: Callable[[Trained, Dataset], dict[str, Any]],
) -> dict[str, Any]:
    """Returns a run's precision and cross-entropy on test and training images."""
    train_dir = pathlib.Path(FLAGS.out_dir) / f"{variant.name.replace(' ', '_')}-{seed}"
    train_dir.mkdir(parents=True, exist_ok=True)
    config = Config(
        seed=seed,
        data_dir=FLAGS.data_dir or None,
        train_dir=str(train_dir),
        **settings() | dict(variant.changes),
    )
    log = train_dir / "log.txt"
    print(f"  log: {log}", flush=True)
    with log.open("a", encoding="utf-8") as file:
        write = functools.partial(print, file=file, flush=True)
        network = fit(config, dataset, write).trained
    found = {}
    for name in SPLITS:
        split = dataset.split(name)
        logits = predict_logits(network, split.images)
        found[name] = scores.accuracy(logits, split.labels)
        loss = scores.negative_log_likelihood(logits, split.labels)
        found[f"{name}_cross_entropy"] = loss
    found |= measure(network, dataset)
    text = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
    print(f"  {text}", flush=True)
    facts = {"variant": variant.name, "seed": seed}
    return facts | {"train_seconds": runs.train_seconds(log)} | found


def by_variant(record: dict[str, Any], figure: str) -> dict[str, list[float]]:
    """Returns one metric, such as "test", for all seeds of each variant."""
    found = collections.defaultdict(list)
    for row in record["rows"]:
        found[row["variant"]].append(row[figure])
    return dict(found)


def report(record: dict[str, Any]) -> str:
    """Returns a table of means and sds on test images, and means on training images."""
    test, train = (by_variant(record, split) for split in SPLITS)
    seconds = by_variant(record, "train_seconds")
    first = np.mean(next(iter(test.values())))
    rows = [
        [
            name,
            f"{np.mean(values):.4f}",
            f"{runs.deviation(values):.4f}" if len(values) > 1 else "",
            f"{100 * (np.mean(values) - first):+.1f}",
            f"{np.mean(train[name]):.4f}",
            f"{np.mean(seconds[name]) / 60:.1f}",
        ]
        for name, values in test.items()
    ]
    header = ["variant", "precision", "sd", "points", "on training images", "minutes"]
    return output.table(header, rows)


def draw(record: dict[str, Any], title: str) -> Figure:
    """Draws one row per variant, with its precision on test and training images."""
    test, train = (by_variant(record, split) for split in SPLITS)
    figure = plots.figure(2.1 + 0.5 * len(test), title)
    axis = figure.subplots()
    series = {"test images": test, "training images, undistorted": train}
    plots.draw_rows(axis, series)
    axis.set_xlabel(
        f"precision @ 1 after {record['settings']['max_steps']:,} steps\n"
        f"{plots.dots(test.values())}\n{record['data']['source']}"
    )
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def keep(name: str, record: dict[str, Any], draw: output.Draw) -> None:
    """Prints the table and writes NAME.json, .csv and .png."""
    print(f"\n{report(record)}")
    directory = pathlib.Path(FLAGS.results_dir)
    output.write(record, directory / f"{name}.json")
    output.write_rows(record["rows"], directory / f"{name}.csv")
    output.write_figure(draw(record), directory / f"{name}.png")
