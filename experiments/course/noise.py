"""Does a little noise barely hurt a deep network?

    python -m experiments.course.noise --checkpoint_dirs=DIR,plain=DIR2 --data_dir=DIR

Evaluates trained networks on test images corrupted by noise, blur, reduced contrast,
JPEG, a gray square and a shift, each at the five strengths of `corruptions`. Prints
precision with its standard error, and how much it drops, and writes noise.json,
noise.csv and noise.png to --results_dir.

Takes 31 evaluations per network, about 2 minutes for the tutorial's network on 2 cores.
An interrupted experiment resumes where it left off. --quick uses 200 images.
"""

import hashlib
import json
import pathlib
from typing import Any

import jax
import numpy as np
from absl import flags
from jaxtyping import Bool
from matplotlib.figure import Figure

from cifar_jax import (
    Dataset,
    Run,
    Split,
    Trained,
    UserError,
    command,
    load_data,
    load_trained,
    predict_logits,
    read_run,
)
from cifar_jax.runs.files import write_atomically
from experiments.course import noise_plot
from experiments.course.corruptions import CORRUPTIONS
from experiments.harness import common, machine, output
from experiments.harness.plots import STYLES

# The levels whose drop in precision answers the question.
ASKED = (1, 3, 5)
QUICK_IMAGES = 200
FLAGS = flags.FLAGS


def runs_by_name(arguments: list[str]) -> dict[str, pathlib.Path]:
    """Returns the folders in --checkpoint_dirs by run name.

    Raises:
        UserError: There are none, more than plot styles, or two with the same name.
    """
    found: dict[str, pathlib.Path] = {}
    for argument in arguments:
        name, equals, directory = argument.rpartition("=")
        path = pathlib.Path(directory)
        name = name if equals else path.resolve().name
        if name in found:
            raise UserError(
                f"--checkpoint_dirs: two runs are named {name!r}; use NAME=DIR"
            )
        found[name] = path
    if not 1 <= len(found) <= len(STYLES):
        raise UserError(
            f"--checkpoint_dirs has {len(found)} runs; pass 1 to {len(STYLES)}"
        )
    return found


def right(network: Trained, split: Split) -> Bool[np.ndarray, " n"]:
    """Returns, for each image, whether its label has the highest logit."""
    return predict_logits(network, split.images).argmax(axis=-1) == split.labels


def identity(network: Trained) -> str:
    """Returns a digest of the parameters, which identifies the network."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(network.variables):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def figures(
    clean: Bool[np.ndarray, " n"], spoilt: Bool[np.ndarray, " n"]
) -> dict[str, float]:
    """Returns the precision and its drop, with standard errors.

    The drop's error is that of paired samples, since the images are the same.

    Args:
        clean: Whether the prediction is correct for each image.
        spoilt: Whether it is correct for each corrupted image.
    """
    precision = spoilt.mean()
    lost = clean.astype(float) - spoilt
    return {
        "precision": float(precision),
        "standard_error": float(np.sqrt(precision * (1 - precision) / len(spoilt))),
        "fall": float(lost.mean()),
        "fall_standard_error": float(lost.std() / np.sqrt(len(lost))),
    }


def select(cases: list[dict[str, Any]], **of: Any) -> list[dict[str, Any]]:
    """Returns the cases with these values."""
    return [case for case in cases if of.items() <= case.items()]


class Unfinished:
    """The cases measured so far, kept in a file until all are complete."""

    def __init__(self, path: pathlib.Path, settings: dict[str, Any]):
        """Reads the file, ignoring cases measured with other settings."""
        self._path, self._settings = path, settings
        self.cases: list[dict[str, Any]] = []
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["settings"] == settings:
                self.cases = found["cases"]

    def add(self, case: dict[str, Any]) -> None:
        """Saves a case and prints it."""
        self.cases.append(case)
        record = {"settings": self._settings, "cases": self.cases}
        write_atomically(self._path, json.dumps(record))
        print(
            f"{case['network']}, {case['corruption']} {case['strength']}: "
            f"{case['precision']:.4f}",
            flush=True,
        )


def measure(
    networks: dict[str, Trained], split: Split, unfinished: Unfinished
) -> list[dict[str, Any]]:
    """Returns a case for each network and strength, plus one uncorrupted (level 0)."""
    clean = {name: right(network, split) for name, network in networks.items()}
    for name, answers in clean.items():
        case = {"network": name, "corruption": "none", "level": 0, "strength": 0}
        if not select(unfinished.cases, **case):
            unfinished.add(case | figures(answers, answers))
    for corruption, of in CORRUPTIONS.items():
        for level, strength in enumerate(of.strengths, start=1):
            case = {"corruption": corruption, "level": level, "strength": strength}
            done = {row["network"] for row in select(unfinished.cases, **case)}
            if done.issuperset(networks):
                continue
            corrupted = Split(of.at(split.images, level, FLAGS.seed), split.labels)
            for name in [name for name in networks if name not in done]:
                answers = right(networks[name], corrupted)
                unfinished.add({"network": name} | case | figures(clean[name], answers))
    return unfinished.cases


def report(cases: list[dict[str, Any]], names: list[str]) -> str:
    """Returns tables of the precision at each strength, and of its drop."""
    rows = [
        [
            same[0]["corruption"],
            f"{same[0]['strength']:g}" if same[0]["level"] else "",
            *(
                f"{case['precision']:.3f} +- {case['standard_error']:.3f}"
                for case in same
            ),
        ]
        for same in zip(*(select(cases, network=name) for name in names), strict=True)
    ]
    precision = output.table(["corruption", "strength", *names], rows)
    rows = [
        [
            name,
            f"{corruption} ({of.parameter})",
            *(
                f"{100 * case['fall']:.1f} +- {100 * case['fall_standard_error']:.1f} "
                f"at {case['strength']:g}"
                for case in select(cases, network=name, corruption=corruption)
                if case["level"] in ASKED
            ),
        ]
        for name in names
        for corruption, of in CORRUPTIONS.items()
    ]
    header = ["network", "corruption", *(f"strength {level}" for level in ASKED)]
    return (
        f"{precision}\n\n"
        "Percentage points of precision lost, with their standard errors:\n"
        f"{output.table(header, rows)}"
    )


def load_test(runs: dict[str, Run]) -> tuple[Dataset, Split]:
    """Returns the data set and the requested part of its test images.

    Raises:
        UserError: A network was trained on different data.
    """
    data_dir = FLAGS.data_dir or next(iter(runs.values())).config.data_dir
    dataset = load_data(FLAGS.dataset, data_dir)
    command.print_banner(dataset.notice)
    for name, run in runs.items():
        if run.data_fingerprint != dataset.fingerprint:
            raise UserError(
                f"{name} was trained on different data: {run.data_source}; pass its "
                "--dataset and --data_dir"
            )
    count = FLAGS.num_examples or (QUICK_IMAGES if FLAGS.quick else None)
    test = dataset.test
    return dataset, Split(test.images[:count], test.labels[:count])


def settings_of(
    runs: dict[str, Run], networks: dict[str, Trained], dataset: Dataset, split: Split
) -> dict[str, Any]:
    """Returns everything that the results depend on."""
    return {
        "data": output.without_paths(dataset.source),
        "fingerprint": dataset.fingerprint,
        "images": len(split),
        "seed": FLAGS.seed,
        "networks": {
            name: {
                "recipe": run.config.recipe,
                "step": networks[name].step,
                "parameters": identity(networks[name]),
            }
            for name, run in runs.items()
        },
        "strengths": {name: list(of.strengths) for name, of in CORRUPTIONS.items()},
    }


def picture(record: dict[str, Any], dataset: Dataset) -> Figure:
    """Returns the figure, with the test images chosen by --examples."""
    examples = dataset.test.images[list(map(int, FLAGS.examples))]
    return noise_plot.draw(record, examples, 1 / len(dataset.class_names))


def draw(record: dict[str, Any]) -> Figure:
    """Returns the figure for an earlier record, with images from --data_dir."""
    return picture(record, load_data(FLAGS.dataset, FLAGS.data_dir or None))


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_list(
        "checkpoint_dirs",
        ["cifar10_train"],
        "Runs, each DIR or NAME=DIR; the default name is the folder's.",
    )
    flags.DEFINE_integer(
        "num_examples", 0, "Use only the first N test images; 0 for all."
    )
    flags.DEFINE_integer("seed", 0, "Seed of the noise and the squares.")
    flags.DEFINE_list("examples", ["4", "13"], "Indices of the test images to show.")
    flags.DEFINE_boolean("quick", False, f"Use only {QUICK_IMAGES} images.")
    output.define_results_dir()


def main(argv: list[str]) -> None:
    """Evaluates the networks; prints, saves and plots the results."""
    del argv
    folders = runs_by_name(FLAGS.checkpoint_dirs)
    runs = {name: read_run(folder) for name, folder in folders.items()}
    dataset, split = load_test(runs)
    networks = {name: load_trained(run) for name, run in runs.items()}
    settings = settings_of(runs, networks, dataset, split)
    results = pathlib.Path(FLAGS.results_dir)
    results.mkdir(parents=True, exist_ok=True)
    unfinished = results / "noise.unfinished.json"
    cases = measure(networks, split, Unfinished(unfinished, settings))
    note = f"{len(split):,} test images of {dataset.name}, {settings['data']}"
    print(f"\n{report(cases, list(networks))}\n\n{note}")
    record = {"machine": machine.machine(), **settings, "cases": cases}
    output.write(record, results / "noise.json")
    output.write_rows(cases, results / "noise.csv")
    output.write_figure(picture(record, dataset), results / "noise.png")
    unfinished.unlink()


if __name__ == "__main__":
    common.run(main, define_flags, draw)
