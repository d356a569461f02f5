r"""Compares settings over seeds, or searches for them: python -m cifar_jax.study.

    python -m cifar_jax.study --study_dir=rates --recipe=sprint --seeds=5 \
        --vary=learning_rate=0.06,0.12,0.24
    python -m cifar_jax.study --study_dir=search --validation_size=5000 \
        --vary="learning_rate=log(0.01, 1)" --vary="weight_decay=0.001,0.004" \
        --sampler=tpe --trials=30

All flags of the train command are those of every run. --vary takes values separated by
commas, all combinations of which are tried, or a range to draw from: log(LOW, HIGH),
with evenly spread logarithms, uniform(LOW, HIGH), or int(LOW, HIGH). It varies a flag,
or a word in braces in one: --model="wrn(width={width})" --vary=width=1,2,4. A search
starts from the values of the other flags, or from those in braces: {width=2}. Put a
value that contains a comma in double quotes, as in CSV.

The same command continues what was interrupted, retries what failed, and repeats
nothing else; several processes, on any hosts that share the folder, can run it
together. A larger --seeds or --trials extends the study. It ends in a table, also as
CSV, JSON, Markdown and a plot in --study_dir.
"""

from cifar_jax import startup

if __name__ == "__main__":
    startup.prepare()

from collections.abc import Sequence

from absl import flags

from cifar_jax import command, console, extras
from cifar_jax.config import flags as config_flags
from cifar_jax.errors import RunError
from cifar_jax.runs.files import check_folder

_MAIN_FLAGS = (
    *("study_dir", "vary", "seeds", "sampler", "trials", "pruner", "baseline"),
    *("at_a_time", "recipe", "max_steps", "dataset", "data_dir", "validation_size"),
    *("model", "import"),
)
_GROUPS = {"study_dir": "Study"}


def main(arguments: Sequence[str]) -> int:
    """Runs the command and returns its exit status."""
    command.refuse_arguments(arguments)
    extras.require("a study", "study", "optuna")
    # Imported here because it needs the extra.
    from cifar_jax.studies import planning, report
    from cifar_jax.studies.side_by_side import Processes

    options = flags.FLAGS
    check_folder(options.study_dir, "study_dir")
    plan = planning.read(options)
    command.print_banner(plan.notice)
    with Processes() as processes:
        trials = planning.work(plan, processes)
    rows = report.rows(trials, options.baseline)
    planning.write(plan, rows, options.baseline)
    console.say("", *report.table(rows, plan.split).splitlines(), "")
    console.say(*report.notes(rows, plan.split, options.baseline, options.seeds > 1))
    console.say(f"also in {options.study_dir}: study.md, .csv, .json, and .png")
    if failed := sum("failed" in r for t in trials for r in t.results.values()):
        raise RunError(
            f"{failed} runs failed; their log.txt has the reason; rerun the command to "
            "retry them"
        )
    return 0


def define_flags() -> None:
    """Defines the flags of this command."""
    command.define_path(
        "study_dir", "study", "Folder of the study, with one folder per run."
    )
    flags.DEFINE_multi_string(
        "vary",
        [],
        "SETTING=VALUE,VALUE,... or =log(LOW, HIGH), =uniform(LOW, HIGH) or "
        "=int(LOW, HIGH). All combinations are tried unless there is a --sampler",
    )
    flags.DEFINE_integer(
        "seeds", 1, "Runs of each setting, with seeds from 0.", lower_bound=1
    )
    flags.DEFINE_string(
        "sampler",
        None,
        "How settings are drawn: random, tpe, or gp, with the options of Optuna's "
        "samplers. A search starts from the values of the other flags, if they are in "
        "the ranges.",
    )
    flags.DEFINE_integer(
        "trials", None, "Number of settings that the sampler draws.", lower_bound=1
    )
    flags.DEFINE_integer("sampler_seed", 0, "Seed of the draws.", lower_bound=0)
    flags.DEFINE_string(
        "pruner",
        "none",
        "Stops hopeless settings, judged by the evaluations of their first seed during "
        "training (--eval_frequency): none, median, percentile, hyperband, or "
        "successive_halving, with the options of Optuna's pruners.",
    )
    flags.DEFINE_integer(
        "baseline",
        0,
        "Number of the setting that others are compared with, the first by default.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "at_a_time", 1, "Runs at a time, which share the cores or GPUs.", lower_bound=1
    )
    config_flags.define()


if __name__ == "__main__":
    command.run(main, define_flags, __doc__, _MAIN_FLAGS, _GROUPS | config_flags.GROUPS)
