"""Trains and evaluates with the real commands, and reads their results."""

import itertools
import pathlib
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from cifar_jax import Run, plugins, read_run
from cifar_jax.writers.jsonl import read_evaluations, read_training
from experiments.harness import output

LOG_LINE = re.compile(
    r"step (\d+), loss = (\S+) \((\S+) examples/sec; (\S+) sec/batch\)"
)
PARAMETERS = re.compile(r"with ([\d,]+) parameters")


def train_and_evaluate(
    train_dir: pathlib.Path,
    train_flags: Sequence[str],
    names: Sequence[str] = ("test",),
) -> dict[str, Any]:
    """Trains in a folder, resuming any run there, and evaluates.

    Args:
        train_dir: The run's folder.
        train_flags: Flags for the train command, except --train_dir.
        names: The evaluations: "test", with averaged parameters, "test_raw", with the
            last step's parameters, or both.

    Returns:
        A dict with these keys:
        precision: Precision by evaluation.
        step_0_loss: Loss before the first step.
        examples_per_sec: Median over the log lines.
        train_seconds: Duration of all steps, without startup and compilation.
        loss: (step, loss) from each log line.
        parameters: The network's number of parameters.
    """
    log = train_dir / "log.txt"
    train_dir.mkdir(parents=True, exist_ok=True)
    print(f"training; log: {log}", flush=True)
    with log.open("a", encoding="utf-8") as file:
        run_command(file, "train", f"--train_dir={train_dir}", *train_flags)
    precision = {name: read_precision(train_dir, name) for name in names}
    lines = _log_lines(log)
    rates = [float(lines[step][1]) for step in lines if step]
    return {
        "precision": precision,
        "step_0_loss": read_training(train_dir / "train.jsonl")[0]["total_loss_raw"],
        "examples_per_sec": float(np.median(rates)) if rates else None,
        "train_seconds": train_seconds(log),
        "loss": [(step, float(rest[0])) for step, rest in lines.items()],
        "parameters": int(PARAMETERS.findall(_read(log))[-1].replace(",", "")),
    }


def train_seconds(log: pathlib.Path, before: int | None = None) -> float:
    """Returns the seconds that a run's steps took, up to the last logged one.

    With `before`, only earlier steps count. Startup, compilation, and steps that were
    lost and repeated do not count.
    """
    lines = _log_lines(log)
    steps = [step for step in lines if before is None or step < before]
    pairs = itertools.pairwise([-1, *steps])
    return round(sum((step - last) * float(lines[step][2]) for last, step in pairs), 1)


def evaluations(train_dir: pathlib.Path, name: str) -> list[tuple[int, float]]:
    """Returns (step, precision) for each evaluation with this name, in order."""
    path = train_dir / "eval" / f"{name}.jsonl"
    records = read_evaluations(path) if path.exists() else []
    return sorted({one["step"]: one["precision_at_1"] for one in records}.items())


def evaluated(train_dir: pathlib.Path, name: str, step: int) -> float | None:
    """Returns the precision at this step, or None if it was not evaluated."""
    return dict(evaluations(train_dir, name)).get(step)


def source(run: Run) -> dict[str, str]:
    """Returns the source and fingerprint of the images a run was trained on."""
    return {
        "source": output.without_paths(run.data_source),
        "fingerprint": run.data_fingerprint,
    }


def mean(values: Sequence[float], digits: int = 3) -> str:
    """Returns the mean, sample standard deviation and count as text.

    For example, "0.601 (sd 0.002, n 3)"; a single value has no standard deviation.
    """
    sd = f"sd {deviation(values):.{digits}f}, " if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f} ({sd}n {len(values)})"


def deviation(values: Sequence[float]) -> float:
    """Returns the sample standard deviation; NaN for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _log_lines(log: pathlib.Path) -> dict[int, list[str]]:
    """Returns loss, examples/sec and sec/batch by step, in order.

    A resumed run may log a step twice; the later line counts.
    """
    lines = {int(step): rest for step, *rest in LOG_LINE.findall(_read(log))}
    return dict(sorted(lines.items()))


def _read(log: pathlib.Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


def read_precision(train_dir: pathlib.Path, name: str) -> float:
    """Returns the precision at the run's last step, evaluating it if necessary."""
    last = read_run(train_dir).config.max_steps
    if evaluated(train_dir, name, last) is None:
        flags = (f"--checkpoint_dir={train_dir}", f"--raw_params={name == 'test_raw'}")
        run_command(subprocess.DEVNULL, "eval", *flags)
    found = evaluated(train_dir, name, last)
    assert found is not None  # The command succeeded.
    return found


def run_command(output: Any, name: str, *flags: str) -> None:
    """Runs a command of the package, and ends this process if it fails."""
    command = [sys.executable, "-m", f"cifar_jax.{name}", *flags, *plugins.as_flags()]
    process = subprocess.Popen(command, stdout=output)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        # The command got the signal too; let it finish saving its checkpoint.
        if process.wait() == 0:
            raise
        status = process.returncode
    if status:
        sys.exit(status)  # The command has printed the reason.
