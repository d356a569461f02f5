"""How fast is the tutorial's training here, compared with TensorFlow and PyTorch?

    python -m experiments.benchmark_train_step --data_dir=DIR \
        --tensorflow_python=TF_ENV/bin/python --pytorch_python=TORCH_ENV/bin/python

Runs complete training programs one after another, in several rounds, and times each
between two of its log lines, so that startup and compilation do not count. Ours is the
real train command, including summaries; peers/ describes what the peers do. A peer is
skipped if no interpreter is given for it and its package is not installed here. Each
round begins by measuring the machine's matrix-product throughput. With the defaults
this takes about 25 minutes on 2 cores; use an otherwise idle machine.
"""

import dataclasses
import importlib.util
import pathlib
import sys
import tempfile
from typing import Any

import numpy as np
from absl import app, flags

from experiments import children, common, machine, output

# The tutorial's network needs 13.4 GFLOP of matrix products per step of 128 images.
GFLOP_PER_EXAMPLE = 13.4 / 128
PEERS = pathlib.Path(__file__).parent / "peers"
OURS = "cifar_jax"
OURS_BF16 = "cifar_jax bf16"
DTYPES = ("float32", "bfloat16")

FLAGS = flags.FLAGS


def has_line(step: int) -> bool:
    """Whether every program prints a line at this step."""
    return step % children.LOG_FREQUENCY == 0


@dataclasses.dataclass
class Program:
    """A training program and the results of its runs, one per round."""

    name: str
    command: list[str]
    using: str = ""
    first_loss: float = float("nan")
    last_loss: float = float("nan")
    peak_bytes: int = 0
    failure: str | None = None
    examples_per_sec: list[float] = dataclasses.field(default_factory=list)

    def run(self) -> None:
        """Runs one round; a program that has failed is not run again."""
        if self.failure is not None:
            return
        with tempfile.TemporaryDirectory() as train_dir:
            own = [f"--train_dir={train_dir}/run"] if self.name.startswith(OURS) else []
            try:
                child = children.run_child(self.command + own)
            except children.ChildFailedError as error:
                self.failure = str(error)
                print(f"  {self.name}: skipped, {error}", flush=True)
                return
        log = child.log
        rate = children.throughput(
            child, FLAGS.batch_size, FLAGS.from_step, FLAGS.steps
        )
        self.examples_per_sec.append(rate)
        self.peak_bytes = max(self.peak_bytes, child.peak_bytes)
        self.first_loss = log[0][1]
        self.last_loss = log[FLAGS.from_step + FLAGS.steps][1]
        said = [text[6:] for _, text in child.lines if text.startswith("using ")]
        self.using = ", ".join(said)
        print(f"  {self.name}: {rate:.0f} examples/s", flush=True)


def programs(records: str) -> list[Program]:
    """Returns our programs and those of the available peers, in the table's order."""
    sizes = [
        f"--batch_size={FLAGS.batch_size}",
        # One more step, so that the run does not end with the last timed line.
        f"--max_steps={FLAGS.from_step + FLAGS.steps + 1}",
    ]
    ours = children.train_command(*sizes)
    commands = {
        OURS: ours,
        OURS_BF16: [*ours, "--use_fp16"],
        "cifar_jax plain": [*ours, "--ops=plain"],
        "cifar_jax plain bf16": [*ours, "--ops=plain", "--use_fp16"],
    }
    sizes += [f"--records={records}", f"--log_frequency={children.LOG_FREQUENCY}"]
    if python := interpreter(FLAGS.tensorflow_python, "tensorflow"):
        peer = [python, str(PEERS / "tensorflow_tutorial.py"), *sizes]
        commands |= {"TensorFlow": peer, "TensorFlow bf16": [*peer, "--bf16"]}
    if python := interpreter(FLAGS.pytorch_python, "torch"):
        peer = [python, str(PEERS / "pytorch_tutorial.py"), *sizes]
        commands |= {
            "PyTorch": peer,
            "PyTorch channels_last": [*peer, "--channels_last"],
            "PyTorch compile": [*peer, "--compile"],
            "PyTorch bf16": [*peer, "--channels_last", "--bf16"],
        }
    wanted = {OURS, *(FLAGS.programs or commands)}
    if unknown := wanted - set(commands):
        raise app.UsageError(
            f"--programs: unknown {unknown}; choose from {list(commands)}"
        )
    return [Program(name, commands[name]) for name in commands if name in wanted]


def interpreter(given: str, module: str) -> str | None:
    """Returns the given interpreter, or this one if it has the module, or None."""
    if given or importlib.util.find_spec(module):
        return given or sys.executable
    print(
        f"skipping {module}: not installed; see --tensorflow_python, --pytorch_python"
    )
    return None


def measure(all_programs: list[Program]) -> list[dict[str, Any]]:
    """Runs the rounds; returns the matrix-product rates, one dict per round."""
    peaks = []
    for number in range(FLAGS.rounds):
        peaks.append(machine.isolated(machine.matrix_product_peak))
        rates = " and ".join(f"{peaks[-1][dtype]:.0f} in {dtype}" for dtype in DTYPES)
        print(f"round {number + 1}: matrix products, GFLOP/s: {rates}", flush=True)
        for program in all_programs:
            program.run()
    return peaks


def spread(values: list[float], digits: int) -> dict[str, float]:
    """Returns the median and the extremes."""
    found = {"median": np.median(values), "min": min(values), "max": max(values)}
    return {name: round(float(value), digits) for name, value in found.items()}


def summary(
    program: Program, ours: dict[str, Program], peaks: list[dict]
) -> dict[str, Any]:
    """Returns the record of a program; ratios are taken round by round."""
    rates = program.examples_per_sec
    dtype = "bfloat16" if program.name.endswith("bf16") else "float32"
    shares = [
        rate * GFLOP_PER_EXAMPLE / peak[dtype]
        for rate, peak in zip(rates, peaks, strict=True)
    ]
    ratios = {
        name: spread(
            [a / b for a, b in zip(one.examples_per_sec, rates, strict=True)], 3
        )
        for name, one in ours.items()
    }
    return {
        "name": program.name,
        "using": program.using,
        "examples_per_sec": spread(rates, 1) | {"rounds": rates},
        "ratios": ratios,
        "share_of_peak": spread(shares, 3),
        "peak_bytes": program.peak_bytes,
        "first_loss": program.first_loss,
        "last_loss": program.last_loss,
    }


def report(results: list[dict[str, Any]], ours: list[str]) -> str:
    """Returns the table of results."""
    rows = []
    for one in results:
        rates, share = one["examples_per_sec"], one["share_of_peak"]["median"]
        ratios = [
            f"{one['ratios'][name]['median']:.2f} "
            f"({one['ratios'][name]['min']:.2f}-{one['ratios'][name]['max']:.2f})"
            for name in ours
        ]
        rows.append(
            [
                one["name"],
                *(f"{rates[name]:.0f}" for name in ("min", "median", "max")),
                *ratios,
                f"{share:.2f}",
                f"{one['peak_bytes'] / 1e9:.2f} GB",
            ]
        )
    header = ["program, examples/s", "min", "median", "max"]
    header += [f"{name} / program" for name in ours]
    return output.table([*header, "share of peak", "memory"], rows)


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_integer("rounds", 5, "Runs of each program.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 128, "Images per step.", lower_bound=1)
    flags.DEFINE_integer("from_step", 20, "Time from the log line of this step.")
    flags.DEFINE_integer(
        "steps", 100, "Steps to time; the default includes the summaries of step 100."
    )
    flags.DEFINE_list("programs", [], "Programs besides cifar_jax; default: all.")
    flags.DEFINE_string("tensorflow_python", "", "Python interpreter with TensorFlow.")
    flags.DEFINE_string("pytorch_python", "", "Python interpreter with PyTorch.")
    for name in ("from_step", "steps"):
        message = f"must be a multiple of {children.LOG_FREQUENCY}"
        flags.register_validator(name, has_line, message)


def main(argv: list[str]) -> None:
    """Measures, prints and saves the results."""
    del argv
    facts = machine.machine()
    with tempfile.TemporaryDirectory() as folder:
        records = f"{folder}/train.bin"
        everyone = programs(records)
        source = machine.isolated(
            children.write_records, FLAGS.dataset, FLAGS.data_dir, records
        )
        print(f"{output.describe(facts)}\n{source}", flush=True)
        peaks = measure(everyone)
    ran = [program for program in everyone if program.failure is None]
    ours = {one.name: one for one in ran if one.name in (OURS, OURS_BF16)}
    results = [summary(one, ours, peaks) for one in ran]
    medians = " and ".join(
        f"{np.median([peak[dtype] for peak in peaks]):.0f} in {dtype}"
        for dtype in DTYPES
    )
    print(
        f"\nbatch size {FLAGS.batch_size}, {len(peaks)} rounds of {FLAGS.steps} steps "
        f"on {peaks[0]['device']}\nJAX matrix products of size {peaks[0]['size']}, "
        f"GFLOP/s: {medians}"
    )
    print(report(results, list(ours)))
    output.keep(
        {
            "machine": facts | {"device": peaks[0]["device"]},
            "data": source,
            "batch_size": FLAGS.batch_size,
            "steps": FLAGS.steps,
            "gflop_per_example": GFLOP_PER_EXAMPLE,
            "matrix_products": peaks,
            "programs": results,
            "left_out": {p.name: p.failure for p in everyone if p.failure is not None},
        }
    )
    if OURS not in ours:
        sys.exit(1)


if __name__ == "__main__":
    common.run(main, define_flags)
