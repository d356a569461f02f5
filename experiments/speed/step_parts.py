"""Where does the time of a training step go, and how close is each part to the peaks?

    python -m experiments.speed.step_parts --data_dir=DIR --models=airbench94_sgd \
        --batch_size=1024

Trains for a few steps with a trace, and adds up the operations of the compiled step by
what they do. While several operations run at the same time, each is given an equal
share of that time, so that the parts add up to the step; one that keeps all cores busy
next to one that does not is given too little, and may exceed the peak. Bytes are those
of each operation's operands and output, read or written once; what the caches save is
not known. Tracing slows the steps down. Before the run, a large matrix product and a
sum of two large arrays measure what the machine can do at most. Takes about two minutes
per network on 2 cores.
"""

import bisect
import collections
import gzip
import json
import os
import pathlib
import tempfile
from typing import Any

import jax
import numpy as np
from absl import flags

from cifar_jax import Config, Hook, Moment, fit, load_data
from cifar_jax.errors import RunError
from experiments.harness import common, machine, output
from experiments.harness.contenders import MODELS, check_models
from experiments.harness.hlo import Program

# Steps before the trace, and steps in it.
WARM_UP, STEPS = 8, 8
FLAGS_OF_XLA = os.environ.get("XLA_FLAGS", "")
IDLE = "no operation"
# Operations whose parts are traced, too, and those that run on other threads.
CONTAINERS = ("while", "call", "conditional")
ASYNCHRONOUS = ("convolution", "custom-call")

FLAGS = flags.FLAGS
Event = dict[str, Any]


class Trace(Hook):
    """Traces the last steps of a run, when memory and caches are in use."""

    every = WARM_UP

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __call__(self, now: Moment) -> None:
        """Starts the trace after the first steps."""
        jax.block_until_ready(now.state)
        if now.step == WARM_UP:
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # tracing Python would take time
            jax.profiler.start_trace(self._folder, profiler_options=options)

    def __exit__(self, *error: object) -> None:
        jax.profiler.stop_trace()


def train(settings: dict[str, Any], dataset: str, data_dir: str, folder: str) -> None:
    """Trains with a trace of the last steps; runs in its own process."""
    config = Config(**settings, max_steps=WARM_UP + STEPS, log_frequency=WARM_UP)
    data = load_data(dataset, data_dir or None)
    fit(config, data, log=lambda line: None, hooks=[Trace(folder)])


def traced_steps(model: str, folder: pathlib.Path) -> tuple[list[Event], Program]:
    """Trains; returns the operations of the traced steps, and the compiled step."""
    dump = f"--xla_dump_to={folder}/hlo --xla_dump_hlo_as_text"
    os.environ["XLA_FLAGS"] = f"{FLAGS_OF_XLA} {dump}"
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # or XLA writes no text
    settings = MODELS[model] | {
        "batch_size": FLAGS.batch_size,
        "use_fp16": FLAGS.use_fp16,
        "eval_frequency": 0,
        "train_dir": None,
    }
    machine.isolated(train, settings, FLAGS.dataset, FLAGS.data_dir, str(folder))
    (path,) = folder.glob("plugins/profile/*/*.trace.json.gz")
    trace = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    events = [event for event in trace if event.get("ph") == "X"]
    operations = [event for event in events if "hlo_op" in event.get("args", {})]
    totals: collections.Counter[str] = collections.Counter()
    for event in operations:
        totals[event["args"]["hlo_module"]] += event["dur"]
    ((slowest, _),) = totals.most_common(1)
    own = [one for one in operations if one["args"]["hlo_module"] == slowest]
    program = compiled_program(slowest, {one["name"] for one in own}, folder)
    return with_ends(own, events, program), program


def compiled_program(module: str, names: set[str], folder: pathlib.Path) -> Program:
    """Returns the dumped program that contains these operations."""
    for path in folder.glob(f"hlo/*.{module}.*cpu_after_optimizations.txt"):
        program = Program(path.read_text(encoding="utf-8"))
        if names <= program.operations.keys():
            return program
    raise RunError(f"XLA wrote no text for the program {module}")


def with_ends(
    operations: list[Event], events: list[Event], program: Program
) -> list[Event]:
    """Corrects the durations of convolutions.

    Their event ends as soon as their threads are started; another one marks the end.
    """
    ends: dict[str, list[float]] = collections.defaultdict(list)
    for event in sorted(events, key=lambda event: event["ts"]):
        if event["name"].startswith("end: "):
            ends[event["name"].removeprefix("end: ")].append(event["ts"])
    found = []
    for event in operations:
        duration = event["dur"]
        if program.operations[event["name"]].kind in ASYNCHRONOUS:
            own = ends[event["name"]]
            duration = own[bisect.bisect(own, event["ts"])] - event["ts"]
        found.append(event | {"dur": duration})
    return found


def shared_times(events: list[Event]) -> dict[str, float]:
    """Returns milliseconds by operation; those that overlap share the time equally."""
    edges = sorted(
        edge
        for event in events
        for edge in (
            (event["ts"], 1, event["name"]),
            (event["ts"] + event["dur"], 0, event["name"]),
        )
    )
    found: dict[str, float] = collections.defaultdict(float)
    running: collections.Counter[str] = collections.Counter()
    before = 0.0
    for now, starts, name in edges:
        for one, count in running.items():
            found[one] += count * (now - before) / running.total() / 1000
        before = now
        running[name] += 1 if starts else -1
        running += collections.Counter()  # forgets those that have ended
    return found


def parts_of_step(model: str) -> dict[str, Any]:
    """Returns the milliseconds of a step, and each part's ms, GFLOP and GB."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        events, program = traced_steps(model, folder)
    leaves = [
        event
        for event in events
        if program.operations[event["name"]].kind not in CONTAINERS
    ]
    calls = collections.Counter(event["name"] for event in leaves)
    parts: dict[str, np.ndarray] = collections.defaultdict(lambda: np.zeros(3))
    for name, taken in shared_times(leaves).items():
        work = (program.flops(name) / 1e9, program.bytes(name) / 1e9)
        parts[program.part(name)] += [taken, *(calls[name] * one for one in work)]
    spent = max(e["ts"] + e["dur"] for e in events) - min(e["ts"] for e in events)
    parts[IDLE] += [spent / 1000 - sum(part[0] for part in parts.values()), 0, 0]
    return {
        "ms": spent / 1000 / STEPS,
        "parts": {
            name: dict(
                zip(("ms", "gflop", "gb"), map(float, part / STEPS), strict=True)
            )
            for name, part in sorted(parts.items(), key=lambda item: -item[1][0])
        },
    }


def report(record: dict[str, Any]) -> str:
    """Returns the table of a network's parts."""
    rows = []
    for name, part in record["parts"].items():
        rates = [
            f"{1000 * part[unit] / part['ms']:.0f}" if part[unit] else ""
            for unit in ("gflop", "gb")
        ]
        share = f"{part['ms'] / record['ms']:.0%}"
        rows.append([name, f"{part['ms']:.0f}", share, *rates])
    return output.table(["part", "ms", "share", "GFLOP/s", "GB/s"], rows)


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_integer("batch_size", 128, "Images per step.", lower_bound=1)
    flags.DEFINE_list("models", ["resnet18"], "Networks to train.")
    flags.DEFINE_boolean("use_fp16", False, "Same as for the train command.")


def main(argv: list[str]) -> None:
    """Measures, prints and saves the parts."""
    del argv
    check_models(FLAGS.models)
    facts = machine.machine()
    peaks = machine.isolated(machine.matrix_product_peak) | {
        "memory": machine.isolated(machine.memory_peak)
    }
    print(output.describe(facts))
    print(
        f"at most {peaks['float32']:.0f} GFLOP/s in float32, "
        f"{peaks['bfloat16']:.0f} in bfloat16, and {peaks['memory']:.0f} GB/s",
        flush=True,
    )
    records = {}
    for model in FLAGS.models:
        records[model] = parts_of_step(model)
        print(
            f"\n{model}: {records[model]['ms']:.0f} ms per step of {FLAGS.batch_size}"
        )
        print(report(records[model]), flush=True)
    output.keep(
        {
            "machine": facts,
            "peaks": peaks,
            "batch_size": FLAGS.batch_size,
            "use_fp16": FLAGS.use_fp16,
            "models": records,
        }
    )


if __name__ == "__main__":
    common.run(main, define_flags)
