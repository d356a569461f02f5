"""How fast is training here, compared with TensorFlow and PyTorch?

    python -m experiments.speed.train_step --data_dir=DIR \
        --tensorflow_python=TF_ENV/bin/python --pytorch_python=TORCH_ENV/bin/python

Runs complete training programs one after another, in several rounds, and times each
between two of its log lines, so that startup and compilation do not count. Ours is the
real train command, including summaries; the files in harness/peers/ describe their
programs. A peer is skipped if no interpreter is passed for it and its package is not
installed here. Each round begins by measuring the machine's matrix-product throughput.
Takes about 25 minutes on 2 cores with the defaults; use an otherwise idle machine.

--models lists the networks. TensorFlow trains only the tutorial's. For the others,
bfloat16 and --ops=plain are run only if --programs names them. Slow networks need fewer
steps, such as --log_frequency=2 --from_step=2 --steps=4.
"""

import sys
import tempfile
from typing import Any

import numpy as np
from absl import flags

from experiments.harness import children, common, contenders, machine, output
from experiments.harness.contenders import OURS, OURS_BF16, PYTORCH_OPTIONS, Contender

DTYPES = ("float32", "bfloat16")

FLAGS = flags.FLAGS


def gflop_per_example(model: str) -> float:
    """Returns the GFLOP of one image in the matrix products of a training step.

    The gradients with respect to inputs and to kernels take as many as the forward
    pass. The tutorial's, without a gradient of its images, takes 13.4 for 128 images.
    """
    # Imported here because a child's peak memory starts from its parent's.
    from cifar_jax import Config, models
    from experiments.harness import flops

    if model == "tutorial":
        return 13.4 / 128
    config = Config(**contenders.MODELS[model])
    network = models.create(config.model, num_classes=10)
    _, operations = flops.forward(network, config.image_size)
    return 3 * operations / 1e9


def measure(all_programs: list[Contender]) -> list[dict[str, Any]]:
    """Runs the rounds; returns their matrix-product rates, one dict per round."""
    peaks = []
    for number in range(FLAGS.rounds):
        peaks.append(machine.isolated(machine.matrix_product_peak))
        rates = " and ".join(f"{peaks[-1][dtype]:.0f} in {dtype}" for dtype in DTYPES)
        print(f"round {number + 1}: matrix products, GFLOP/s: {rates}", flush=True)
        for program in all_programs:
            program.run()
    return peaks


def spread(values: list[float], digits: int) -> dict[str, float]:
    """Returns the median, minimum and maximum."""
    found = {"median": np.median(values), "min": min(values), "max": max(values)}
    return {name: round(float(value), digits) for name, value in found.items()}


def ratios(over: list[float], under: list[float]) -> dict[str, float]:
    """Returns the median, minimum and maximum of the ratios in each round."""
    return spread([a / b for a, b in zip(over, under, strict=True)], 3)


def summary(
    program: Contender,
    ours: dict[str, Contender],
    peaks: list[dict[str, Any]],
    gflop: float,
) -> dict[str, Any]:
    """Returns a program's record; ratios are taken round by round."""
    rates = program.examples_per_sec
    dtype = "bfloat16" if program.name.endswith("bf16") else "float32"
    shares = [
        rate * gflop / peak[dtype] for rate, peak in zip(rates, peaks, strict=True)
    ]
    return {
        "name": program.name,
        "using": program.using,
        "examples_per_sec": spread(rates, 1) | {"rounds": rates},
        "ratios": {
            name: ratios(one.examples_per_sec, rates) for name, one in ours.items()
        },
        "share_of_peak": spread(shares, 3),
        "peak_bytes": program.peak_bytes,
        "first_loss": program.first_loss,
        "last_loss": program.last_loss,
    }


def interval(ratio: dict[str, float]) -> str:
    """Returns the median and range as a table cell."""
    return f"{ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})"


def speed(value: float) -> str:
    """Returns examples/s as a table cell."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def report(results: list[dict[str, Any]], ours: list[str]) -> str:
    """Returns the table of results."""
    rows = []
    for one in results:
        rates, share = one["examples_per_sec"], one["share_of_peak"]["median"]
        rows.append(
            [
                one["name"],
                *(speed(rates[name]) for name in ("min", "median", "max")),
                *(interval(one["ratios"][name]) for name in ours),
                f"{share:.2f}",
                f"{one['peak_bytes'] / 1e9:.2f} GB",
            ]
        )
    header = ["program, examples/s", "min", "median", "max"]
    header += [f"{name} / program" for name in ours]
    return output.table([*header, "share of peak", "memory"], rows)


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_integer("rounds", 5, "Runs per program.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 128, "Images per step.", lower_bound=1)
    flags.DEFINE_integer(
        "from_step", 20, "Step whose log line starts the timing.", lower_bound=1
    )
    flags.DEFINE_integer(
        "steps",
        100,
        "Steps to time; the default includes the summaries of step 100.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "log_frequency", children.LOG_FREQUENCY, "Steps between log lines."
    )
    flags.DEFINE_list("models", ["tutorial"], "Networks to train.")
    flags.DEFINE_list("programs", [], "Programs to run besides cifar_jax.")
    flags.DEFINE_string("tensorflow_python", "", "Python interpreter with TensorFlow.")
    flags.DEFINE_string("pytorch_python", "", "Python interpreter with PyTorch.")
    flags.register_multi_flags_validator(
        ["from_step", "steps", "log_frequency"],
        lambda given: (
            given["from_step"] % given["log_frequency"] == 0
            and given["steps"] % given["log_frequency"] == 0
        ),
        "--from_step and --steps must be multiples of --log_frequency",
    )


def compare(model: str, everyone: list[Contender]) -> dict[str, Any]:
    """Measures the programs of a network, and prints and returns their results."""
    print(f"\n{model}", flush=True)
    gflop = machine.isolated(gflop_per_example, model)
    peaks = measure(everyone)
    ran = [program for program in everyone if program.failure is None]
    ours = {one.name: one for one in ran if one.name in (OURS, OURS_BF16)}
    results = [summary(one, ours, peaks, gflop) for one in ran]
    medians = " and ".join(
        f"{np.median([peak[dtype] for peak in peaks]):.0f} in {dtype}"
        for dtype in DTYPES
    )
    print(
        f"\n{model}, batch size {FLAGS.batch_size}, {len(peaks)} rounds of "
        f"{FLAGS.steps} steps on {peaks[0]['device']}\nJAX matrix products of size "
        f"{peaks[0]['size']}, GFLOP/s: {medians}"
    )
    print(report(results, list(ours)), flush=True)
    return {
        "gflop_per_example": gflop,
        "matrix_products": peaks,
        "programs": results,
        "left_out": {p.name: p.failure for p in everyone if p.failure is not None},
        "over_pytorch": over_pytorch(ran),
    }


def over_pytorch(ran: list[Contender]) -> dict[str, Any] | None:
    """Compares ours with the fastest PyTorch program; None if either is missing.

    The fastest has the highest median; bfloat16 programs do not compete.
    """
    rates = {program.name: program.examples_per_sec for program in ran}
    candidates = [name for name in rates if name in PYTORCH_OPTIONS]
    if not candidates or OURS not in rates:
        return None
    best = max(candidates, key=lambda name: np.median(rates[name]))
    return {
        "best": best,
        "examples_per_sec": {name: spread(rates[name], 1) for name in (OURS, best)},
        "ratio": ratios(rates[OURS], rates[best]),
    }


def report_over_pytorch(models: dict[str, dict[str, Any]]) -> str:
    """Returns the table that compares ours with the fastest PyTorch program."""
    rows = []
    for model, record in models.items():
        if found := record["over_pytorch"]:
            medians = [one["median"] for one in found["examples_per_sec"].values()]
            best, ratio = found["best"], interval(found["ratio"])
            rows.append([model, *map(speed, medians), best, ratio])
    header = ["network", "cifar_jax, examples/s", "PyTorch", "PyTorch program", "ratio"]
    return output.table(header, rows)


def main(argv: list[str]) -> None:
    """Measures, prints and saves the results."""
    del argv
    facts = machine.machine()
    with tempfile.TemporaryDirectory() as folder:
        records = f"{folder}/train.bin"
        everyone = contenders.programs(FLAGS.models, records)
        source = machine.isolated(
            children.write_records, FLAGS.dataset, FLAGS.data_dir, records
        )
        print(f"{output.describe(facts)}\n{source}", flush=True)
        models = {model: compare(model, group) for model, group in everyone.items()}
    if any(record["over_pytorch"] for record in models.values()):
        print(f"\n{report_over_pytorch(models)}")
    device = models[FLAGS.models[0]]["matrix_products"][0]["device"]
    output.keep(
        {
            "machine": facts | {"device": device},
            "data": source,
            "batch_size": FLAGS.batch_size,
            "steps": FLAGS.steps,
            "models": models,
        }
    )
    if any(OURS in record["left_out"] for record in models.values()):
        sys.exit(1)


if __name__ == "__main__":
    common.run(main, define_flags)
