"""Does Bayesian search find better hyperparameters than people and than chance?

    python -m experiments.accuracy.fifteen_percent --data_dir=DIR

Snoek, Larochelle and Adams, "Practical Bayesian optimization of machine learning
algorithms", 2012, section 4.4, reduced the test error of cuda-convnet's network from
18% to 15% this way. Here, a Gaussian process and, for comparison, random search choose
the same nine hyperparameters by accuracy on held-out training images. At the end, the
published setting and the best one from each search are trained on all training images
and evaluated on the test images.

It runs five studies with `python -m cifar_jax.study`, each of which starts with the
published setting, and prints their commands. The same command continues them. The full
experiment, with 120 epochs per trial, is

    python -m experiments.accuracy.fifteen_percent --data_dir=DIR \
        --max_steps=46875 --trials=50

The Gaussian process needs `pip install torch`; --sampler=tpe does without.
"""

import json
import pathlib
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from absl import flags

from cifar_jax import command, extras, load_data, plugins
from cifar_jax.errors import RunError
from experiments.accuracy.fifteen_percent_plot import draw
from experiments.harness import common, machine, output

FLAGS = flags.FLAGS

# The recipe, with the values of cuda-convnet's files in braces. Its weight decays are
# those of the groups.
NETWORK = {
    "recipe": "cuda_convnet_18pct",
    "model": "cuda_convnet_18pct(lrn_radius={lrn_radius=1}, "
    "lrn_scale={lrn_scale=5e-5}, lrn_power={lrn_power=0.75})",
    "weight_decay": "1",
    "param_groups": "group('.*/bias', learning_rate=2.0), "
    "group('conv1/kernel', weight_decay={weight_decay_conv1=0.004}), "
    "group('conv2/kernel', weight_decay={weight_decay_conv2=0.004}), "
    "group('conv3/kernel', weight_decay={weight_decay_conv3=0.004}), "
    "group('logits/kernel', weight_decay={weight_decay_logits=1.0})",
    "eval_frequency": "0",
}
# The paper does not give its ranges. Wherever possible, these are centered, on a
# logarithmic scale, on the published values. The ninth hyperparameter is the number of
# steps, from half of --max_steps; the paper varies the number of epochs.
SPACE = {
    "learning_rate": "log(1e-5, 1e-1)",
    "weight_decay_conv1": "log(4e-5, 4e-1)",
    "weight_decay_conv2": "log(4e-5, 4e-1)",
    "weight_decay_conv3": "log(4e-5, 4e-1)",
    "weight_decay_logits": "log(1e-2, 1e2)",
    "lrn_radius": "int(0, 4)",  # squares of 1x1 to 9x9 pixels
    "lrn_scale": "log(5e-7, 5e-3)",
    "lrn_power": "uniform(0.25, 1.25)",
}
QUICK = {"trials": 2, "initial": 1, "max_steps": 4, "validation_size": 64, "seeds": 1}
SAMPLERS = {"gp": "Gaussian process", "tpe": "TPE"}


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_enum("sampler", "gp", SAMPLERS, "Optuna's sampler, besides random.")
    flags.DEFINE_integer("trials", 20, "Trials per search.", lower_bound=1)
    flags.DEFINE_integer(
        "initial",
        8,
        "Trials that start both searches: the published setting and random ones.",
        lower_bound=1,
    )
    flags.DEFINE_integer("max_steps", 600, "Steps of the longest trial.", lower_bound=2)
    flags.DEFINE_integer(
        "validation_size", 10_000, "Held-out training images.", lower_bound=1
    )
    flags.DEFINE_integer("seeds", 3, "Final training runs per setting.", lower_bound=1)
    flags.DEFINE_string("out_dir", "results/search", "Directory of the studies.")
    output.define_results_dir()
    flags.DEFINE_boolean(
        "quick", False, "Run a few trials of four steps, in a minute or two."
    )


def main(argv: list[str]) -> None:
    """Runs the experiment."""
    del argv
    extras.require("a study", "study", "optuna")
    from cifar_jax.studies import choices

    choices.sampler(FLAGS.sampler, 0)  # refuses one that lacks its package
    if FLAGS.quick:
        for name, value in QUICK.items():
            FLAGS[name].value = value
    data = load_data(FLAGS.dataset, FLAGS.data_dir or None)
    command.print_banner(data.notice)
    searches = {
        "random": search("random"),
        SAMPLERS[FLAGS.sampler]: search(FLAGS.sampler),
    }
    [published] = (trial for trial in searches["random"] if trial["number"] == 0)
    chosen = {"published": published} | {name: s[0] for name, s in searches.items()}
    record = {
        "machine": machine.machine() | {"device": machine.isolated(machine.device)},
        "data": {
            "source": output.without_paths(data.source),
            "fingerprint": data.fingerprint,
            "classes": len(data.class_names),
        },
        "settings": {name: FLAGS[name].value for name in ("sampler", *QUICK)},
        "network": NETWORK,
        "space": SPACE,
        "searches": searches,
        "final": {name: final(name, one["setting"]) for name, one in chosen.items()},
    }
    results = pathlib.Path(FLAGS.results_dir)
    output.write(record, results / "fifteen_percent.json")
    output.write_figure(draw(record), results / "fifteen_percent.png")
    output.keep(record)
    print(table(record["final"]))


def search(sampler: str) -> list[dict[str, Any]]:
    """Returns the trials of a search, the best first."""
    longest = FLAGS.max_steps
    space = SPACE | {"max_steps": f"int({longest // 2}, {longest})"}
    initial = "" if sampler == "random" else f"n_startup_trials={FLAGS.initial}"
    return study(
        sampler,
        NETWORK | {"max_steps": longest, "validation_size": FLAGS.validation_size},
        *(f"--vary={name}={values}" for name, values in space.items()),
        f"--sampler={sampler}({initial})",
        f"--trials={FLAGS.trials}",
    )


def final(name: str, setting: dict[str, str]) -> dict[str, Any]:
    """Returns how well a setting classifies the test images, over seeds."""
    from cifar_jax.studies import space  # needs an extra

    chosen = space.flags(setting, NETWORK)
    folder = "final-" + name.replace(" ", "_")
    [row] = study(folder, chosen, f"--seeds={FLAGS.seeds}")
    return row | {"setting": setting}


def study(
    name: str, train_flags: Mapping[str, Any], *more: str
) -> list[dict[str, Any]]:
    """Returns what a study tried, the best first, after making the runs left.

    Raises:
        RunError: the study failed.
    """
    from cifar_jax.studies.side_by_side import Processes

    folder = pathlib.Path(FLAGS.out_dir) / name
    folder.mkdir(parents=True, exist_ok=True)
    words = [
        *("-m", "cifar_jax.study", f"--study_dir={folder}"),
        *(f"--dataset={FLAGS.dataset}", f"--data_dir={FLAGS.data_dir}"),
        *(f"--{flag}={text}" for flag, text in train_flags.items()),
        *(("--batch_size=8", "--ops=plain") if FLAGS.quick else ()),
        *(*more, *plugins.as_flags()),
    ]
    log = folder / "log.txt"
    print(f"{shlex.join(['python', *words])}\nlog in {log}", flush=True)
    with Processes() as processes:
        if error := processes.run([sys.executable, *words], {}, log):
            raise RunError(f"{name}: {error}")
    print(f"\n{(folder / 'study.md').read_text(encoding='utf-8')}", flush=True)
    found = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    return found["settings tried"]


def table(final: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the final precisions, compared with the published setting's by seed."""
    from cifar_jax.studies import report

    published = final["published"]["precision"]
    rows = [
        report.row(
            number,
            {"chosen by": name},
            found["precision"],
            published if number else {},
            others={},
            minutes=found["minutes"],
            num_examples=found["num_examples"],
        )
        for number, (name, found) in enumerate(final.items())
    ]
    return report.table(rows, "test")


if __name__ == "__main__":
    common.run(main, define_flags, draw)
