"""Does training here match TensorFlow's tutorial, along the way and at the end?

    python -m experiments.accuracy.fidelity --data_dir=DIR \
        --tensorflow_python=TF_ENV/bin/python

Trains the tutorial's network several times with each of --programs: in TensorFlow
(harness/peers/tensorflow_tutorial.py), and with the real commands in float32 and
bfloat16, with fast and with plain operations. Prints precision @ 1 and its spread, and
writes fidelity.json, and fidelity.png with the loss curves, to --results_dir.
TensorFlow is skipped if no interpreter is passed for it and it is not installed here.
An interrupted experiment resumes where it left off. Takes about 2 minutes per run on 2
cores, and 8 with plain operations; --quick makes one run of four steps per program.
"""

import json
import pathlib
import re
import tempfile
from typing import Any

from absl import flags

from cifar_jax import UserError
from experiments.accuracy.fidelity_plot import draw
from experiments.harness import children, common, contenders, machine, output, runs

TENSORFLOW = "TensorFlow"
# Flags of the train command for each program.
OURS: dict[str, list[str]] = {
    "float32": [],
    "bfloat16": ["--use_fp16"],
    "float32 plain": ["--ops=plain"],
    "bfloat16 plain": ["--use_fp16", "--ops=plain"],
}
PRECISION = re.compile(r"precision @ 1, \w+ parameters = (\S+)")
QUICK_STEPS = 4

FLAGS = flags.FLAGS


def settings() -> list[str]:
    """Returns the flags that all programs share."""
    if FLAGS.quick:
        return [f"--max_steps={QUICK_STEPS}", "--batch_size=8", "--log_frequency=1"]
    return [f"--max_steps={FLAGS.max_steps}"]


def by_commands(name: str, seed: int) -> dict[str, Any]:
    """Trains and evaluates with the real commands; returns the run's results."""
    given = [
        *OURS[name],
        *settings(),
        f"--seed={seed}",
        f"--dataset={FLAGS.dataset}",
        f"--data_dir={FLAGS.data_dir}",
    ]
    figures = runs.train_and_evaluate(folder(name, seed), given, ("test", "test_raw"))
    precision = figures.pop("precision")
    both = {"precision": precision["test"], "precision_raw": precision["test_raw"]}
    return {"seed": seed} | both | figures


def by_tensorflow(
    python: str, number: int, records: pathlib.Path, data: dict[str, str]
) -> dict[str, Any]:
    """Trains and evaluates with TensorFlow, unseeded like the tutorial.

    Args:
        python: A Python interpreter with TensorFlow.
        number: The number of the run.
        records: The folder for image files, which are written if needed.
        data: The result of `data_facts`.

    Raises:
        UserError: An earlier run with this number had different settings or data.
    """
    path = folder(TENSORFLOW, number) / "run.json"
    wanted = {"flags": settings(), "data": data}
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["settings"] != wanted:
            raise UserError(
                f"{path} has different settings or data; pass a different --out_dir"
            )
        return kept["figures"]
    command = [python, contenders.TENSORFLOW, *settings()]
    for flag, split in (("records", "train_eval"), ("test_records", "test")):
        file = records / split
        if not file.exists():
            where = FLAGS.dataset, FLAGS.data_dir, str(file)
            machine.isolated(children.write_records, *where, split)
        command.append(f"--{flag}={file}")
    print(f"training in TensorFlow, run {number}", flush=True)
    child = children.run_child(command)
    text = "\n".join(line for _, line in child.lines)
    averaged, raw = map(float, PRECISION.findall(text))
    log = [(step, loss) for step, (_, loss) in child.log.items()]
    precision = {"precision": averaged, "precision_raw": raw}
    figures = precision | {"step_0_loss": log[0][1], "loss": log}
    output.write({"settings": wanted, "figures": figures}, path)
    return figures


def tensorflow_runs(seeds: range, data: dict[str, str]) -> list[dict[str, Any]]:
    """Returns the runs in TensorFlow, or none if it is not available."""
    python = contenders.interpreter(FLAGS.tensorflow_python, "tensorflow")
    if python is None:
        return []
    with tempfile.TemporaryDirectory() as records:
        where = pathlib.Path(records)
        return [by_tensorflow(python, number, where, data) for number in seeds]


def data_facts(name: str, data_dir: str) -> dict[str, str]:
    """Returns the source and fingerprint of the images."""
    from cifar_jax import load_data

    dataset = load_data(name, data_dir or None)
    source = output.without_paths(dataset.source)
    return {"source": source, "fingerprint": dataset.fingerprint}


def folder(name: str, number: int) -> pathlib.Path:
    """Returns the folder of a run."""
    return pathlib.Path(FLAGS.out_dir) / name.replace(" ", "_") / f"seed{number}"


def report(programs: dict[str, list[dict[str, Any]]]) -> str:
    """Returns a table of each program's precisions and losses at step 0."""
    figures = ("precision", "precision_raw", "step_0_loss")
    rows = [
        [name, *(runs.mean([run[key] for run in found], 4) for key in figures)]
        for name, found in programs.items()
    ]
    header = ["program", "averaged parameters", "raw parameters", "step-0 loss"]
    return output.table(header, rows)


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_list("programs", [TENSORFLOW, *OURS], "Programs to run.")
    flags.DEFINE_integer("seeds", 5, "Runs per program.", lower_bound=1)
    flags.DEFINE_integer("max_steps", 1000, "Steps per run.", lower_bound=1)
    flags.DEFINE_string(
        "out_dir", "results/fidelity", "Directory for runs, one folder per run."
    )
    output.define_results_dir()
    flags.DEFINE_string("tensorflow_python", "", "Python interpreter with TensorFlow.")
    flags.DEFINE_boolean("quick", False, "Run each program once, for four steps.")


def main(argv: list[str]) -> None:
    """Runs every program; prints, saves and draws the results."""
    del argv
    if unknown := set(FLAGS.programs) - {TENSORFLOW, *OURS}:
        raise UserError(
            f"--programs: unknown {unknown}; choose from {[TENSORFLOW, *OURS]}"
        )
    facts = machine.machine() | {"device": machine.isolated(machine.device)}
    data = machine.isolated(data_facts, FLAGS.dataset, FLAGS.data_dir)
    print(f"{output.describe(facts)}\n{data['source']}", flush=True)
    seeds = range(1 if FLAGS.quick else FLAGS.seeds)
    programs = {
        name: (
            tensorflow_runs(seeds, data)
            if name == TENSORFLOW
            else [by_commands(name, seed) for seed in seeds]
        )
        for name in FLAGS.programs
    }
    programs = {name: found for name, found in programs.items() if found}
    print(f"\n{report(programs)}")
    record = {
        "machine": facts,
        "data": data,
        "max_steps": QUICK_STEPS if FLAGS.quick else FLAGS.max_steps,
        "programs": programs,
    }
    directory = pathlib.Path(FLAGS.results_dir)
    output.write(record, directory / "fidelity.json")
    output.write_figure(draw(record), directory / "fidelity.png")


if __name__ == "__main__":
    common.run(main, define_flags, draw)
