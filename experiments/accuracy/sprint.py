"""How accurate is a network after minutes on a CPU, or after seconds on a GPU?

    python -m experiments.accuracy.sprint --data_dir=DIR --json=sprint.json
    python -m experiments.accuracy.sprint --data_dir=DIR --json=sprint_gpu.json \
        --seeds=40 --runs='--recipe=airbench94 --use_fp16' --whole_runs \
        --original=airbench94_muon.py --pytorch_python=TORCH_ENV/bin/python

Trains with each set of flags in --runs, once per seed, and evaluates on the test set.
By default, it uses the real commands; with --whole_runs, programs on the device that
make whole runs. --original adds Jordan's program on the same GPU. Prints a table, and
plots accuracy against time next to the JSON file.

Training time is that of all steps, and in programs and the original also that of
initialization. Loading the data and compilation do not count, nor does a first run that
warms up a program.
"""

import functools
import pathlib
import shlex
import sys
import tempfile
import time
from typing import Any

from absl import flags

from cifar_jax import plugins, read_run
from experiments.accuracy import sprint_report
from experiments.harness import children, common, machine, output, runs
from experiments.harness.contenders import PEERS

RUNS = ["--recipe=sprint", "--recipe=sprint --max_steps=240"]
PEER = PEERS / "airbench_original.py"

FLAGS = flags.FLAGS


def by_commands(text: str) -> dict[str, Any]:
    """Trains and evaluates with the real commands, one seed at a time."""
    results = []
    for seed in range(FLAGS.seeds):
        with tempfile.TemporaryDirectory() as folder:
            command = children.train_command(
                f"--train_dir={folder}", f"--seed={seed}", *shlex.split(text)
            )
            trained = children.run_child(command)
            evaluation = [sys.executable, "-m", "cifar_jax.eval", *plugins.as_flags()]
            evaluated = children.run_child([*evaluation, f"--checkpoint_dir={folder}"])
            steps = read_run(folder).config.max_steps
            accuracy = runs.evaluated(pathlib.Path(folder), "test", steps)
        compiled = next(s for s, line in trained.lines if "compiled in" in line)
        saved = max(s for s, line in trained.lines if "saved " in line)
        results.append(
            {
                "seed": seed,
                "accuracy": accuracy,
                "train_seconds": saved - compiled,
                "train_command_seconds": trained.lines[-1][0],
                "eval_command_seconds": evaluated.lines[-1][0],
            }
        )
        print(f"{text}: {output.describe(results[-1])}", flush=True)
    return {"name": text, "results": results}


def by_programs(text: str) -> dict[str, Any]:
    """Makes whole runs on the device."""
    data = FLAGS.dataset, FLAGS.data_dir
    record = machine.isolated(_programs, text, FLAGS.seeds, *data)
    print(f"{text}: {output.describe(record['results'][-1])}", flush=True)
    return {"name": text} | record


def _programs(text: str, seeds: int, dataset: str, data_dir: str) -> dict[str, Any]:
    from cifar_jax import load_data
    from cifar_jax.config import flags as config_flags
    from experiments.harness.whole_runs import WholeRuns

    config_flags.define()
    FLAGS(["", f"--dataset={dataset}", *shlex.split(text)])
    data = load_data(dataset, data_dir or None)
    began = time.monotonic()
    programs = WholeRuns(config_flags.read(), data)
    compile_seconds = time.monotonic() - began
    programs.evaluate(programs.train(0))
    results = []
    for seed in range(seeds):
        began = time.monotonic()
        state = programs.train(seed)
        trained = time.monotonic()
        accuracy = programs.evaluate(state)
        results.append(
            {
                "seed": seed,
                "accuracy": accuracy,
                "train_seconds": trained - began,
                "seconds_with_evaluation": time.monotonic() - began,
            }
        )
    return {"compile_seconds": compile_seconds, "results": results}


def by_original(path: str) -> dict[str, Any]:
    """Runs Jordan's program on the same data; its first run only warms up."""
    write = functools.partial(
        machine.isolated, children.write_records, FLAGS.dataset, FLAGS.data_dir
    )
    with tempfile.TemporaryDirectory() as folder:
        for split in ("train_eval", "test"):
            write(f"{folder}/{split}", split)
        python = FLAGS.pytorch_python or sys.executable
        command = [python, str(PEER), str(pathlib.Path(path).absolute())]
        command += [f"{folder}/train_eval", f"{folder}/test", str(FLAGS.seeds)]
        child = children.run_child(command, folder=folder)
    warm_up, *results = sprint_report.original_results(child.lines)
    return {
        "name": f"{pathlib.Path(path).name} (PyTorch)",
        "compile_seconds": warm_up["ended"],
        "results": [{"seed": seed, **result} for seed, result in enumerate(results)],
    }


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_multi_string("runs", RUNS, "Flags for the train command; repeatable.")
    flags.DEFINE_integer("seeds", 5, "Number of seeds, from 0.", lower_bound=1)
    flags.DEFINE_bool("whole_runs", False, "Whether programs make whole runs.")
    flags.DEFINE_string("original", "", "Path of Jordan's airbench94_muon.py.")
    flags.DEFINE_string("pytorch_python", "", "Python interpreter with PyTorch.")


def main(argv: list[str]) -> None:
    """Makes all runs; prints, saves and plots the results."""
    del argv
    facts = machine.machine() | {"device": machine.isolated(machine.device)}
    print(output.describe(facts), flush=True)
    records = [by_original(FLAGS.original)] if FLAGS.original else []
    for text in FLAGS.runs:
        records.append((by_programs if FLAGS.whole_runs else by_commands)(text))
    print(f"\n{sprint_report.table(records)}")
    output.keep({"machine": facts, "runs": records}, sprint_report.draw)


if __name__ == "__main__":
    common.run(main, define_flags, sprint_report.draw)
