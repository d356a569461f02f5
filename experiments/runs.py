"""Trainings and evaluations by the real commands, as figures."""

import itertools
import pathlib
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from cifar_jax import Run, read_run
from cifar_jax.runs.summaries import read_evaluations, read_training
from experiments import common

LOG_LINE = re.compile(
    r"step (\d+), loss = (\S+) \((\S+) examples/sec; (\S+) sec/batch\)"
)
PARAMETERS = re.compile(r"with ([\d,]+) parameters")


def train_and_evaluate(
    train_dir: pathlib.Path,
    train_flags: Sequence[str],
    evaluations: Sequence[str] = ("test",),
) -> dict[str, Any]:
    """Trains in a folder, or goes on there, and evaluates.

    Args:
        train_dir: of the run.
        train_flags: of the train command, but for --train_dir.
        evaluations: "test", by averaged parameters, and "test_raw", by those of the
            last step.

    Returns:
        precision: by evaluation.
        step_0_loss: the loss before the first step.
        examples_per_sec: median over the lines of the log.
        train_seconds: of all steps together, start and compilation not counted.
        loss: of every line, (step, loss).
        parameters: how many the network has.
    """
    log = train_dir / "log.txt"
    train_dir.mkdir(parents=True, exist_ok=True)
    print(f"training, its log: {log}", flush=True)
    with log.open("a", encoding="utf-8") as file:
        _command(file, "train", f"--train_dir={train_dir}", *train_flags)
    precision = {name: _precision(train_dir, name) for name in evaluations}
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
    """What the steps of a run took, or those before one, to the last that is logged.

    Start and compilation are not counted, nor steps that were lost and taken again.
    """
    lines = _log_lines(log)
    steps = [step for step in lines if before is None or step < before]
    pairs = itertools.pairwise([-1, *steps])
    return round(sum((step - last) * float(lines[step][2]) for last, step in pairs), 1)


def evaluated(train_dir: pathlib.Path, name: str, step: int) -> float | None:
    """The precision that an evaluation of this step has found; None: not made yet."""
    path = train_dir / "eval" / f"{name}.jsonl"
    records = read_evaluations(path) if path.exists() else []
    found = {record["step"]: record["precision_at_1"] for record in records}
    return found.get(step)


def source(run: Run) -> dict[str, str]:
    """Which images a run was trained on."""
    return {
        "source": common.without_paths(run.data_source),
        "fingerprint": run.data_fingerprint,
    }


def spread(values: Sequence[float]) -> str:
    """Mean and sample standard deviation in words."""
    return f"mean {np.mean(values):.4f}, sd {deviation(values):.4f}, n {len(values)}"


def deviation(values: Sequence[float]) -> float:
    """Sample standard deviation; NaN of fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _log_lines(log: pathlib.Path) -> dict[int, list[str]]:
    """Loss, examples/sec and sec/batch by the step, in order.

    A resumed run wrote some steps twice: the last counts.
    """
    lines = {int(step): rest for step, *rest in LOG_LINE.findall(_read(log))}
    return dict(sorted(lines.items()))


def _read(log: pathlib.Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


def _precision(train_dir: pathlib.Path, name: str) -> float:
    """That of an evaluation of the run's last step, which is made if it was not yet."""
    last = read_run(train_dir).config.max_steps
    if evaluated(train_dir, name, last) is None:
        flags = (f"--checkpoint_dir={train_dir}", f"--raw_params={name == 'test_raw'}")
        _command(subprocess.DEVNULL, "eval", *flags)
    found = evaluated(train_dir, name, last)
    assert found is not None  # The command has ended well.
    return found


def _command(output: Any, name: str, *flags: str) -> None:
    command = [sys.executable, "-m", f"cifar_jax.{name}", *flags]
    process = subprocess.Popen(command, stdout=output)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        # The command was told as well; it saves, and is not to be killed meanwhile.
        if process.wait() == 0:
            raise
        status = process.returncode
    if status:
        sys.exit(status)  # The command has said why.
