"""Trainings that are killed at random times."""

import contextlib
import pathlib
import random
import re
import signal
import subprocess
import time

import numpy as np
from helpers import DIGITS, command, environment, state_of

from campaign_parts.attempts import Table

STEPS = 40
SAVING = (
    *DIGITS,
    "--save_interval_secs=0",
    "--log_frequency=1",
    f"--max_steps={STEPS}",
)


def kills(count: int, folder: pathlib.Path, table: Table) -> None:
    """Kills trainings at random times until `count` have been killed."""
    reference = folder / "reference"
    reference.mkdir()
    began = time.monotonic()
    train(reference)
    train(reference)  # Includes the time of a start with everything compiled.
    whole = time.monotonic() - began
    expected = state_of(reference / "run", STEPS)
    ended, number = 0, 0
    while ended < count:
        number += 1
        run = folder / f"killed{number}"
        run.mkdir()
        while True:
            signum = random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            outcome, problem = train_and_kill(run, random.uniform(0.05, whole), signum)
            if outcome == "finished":
                break
            ended += 1
            table.add(f"kill by {signum.name}", outcome, problem)
        same = all(
            np.array_equal(a, b)
            for a, b in zip(state_of(run / "run", STEPS), expected, strict=True)
        )
        table.add("run to its end", "same bits", None if same else f"{run} differs")


def train(folder: pathlib.Path) -> None:
    """Runs a training to its end."""
    subprocess.run(
        command("train", *SAVING),
        cwd=folder,
        env=environment(folder),
        check=True,
        stdout=subprocess.DEVNULL,
    )


def train_and_kill(
    folder: pathlib.Path, seconds: float, signum: signal.Signals
) -> tuple[str, str | None]:
    """Kills a training; returns where it was and any problem with how it ended."""
    process = subprocess.Popen(
        command("train", *SAVING),
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.send_signal(signum)
    out, err = process.communicate(timeout=120)
    if process.returncode == 0:
        return "finished", None
    where = "in its steps" if ": step " in out else "at its start"
    if signum == signal.SIGKILL:
        return where, None if process.returncode == -signum else err
    # Before the command's first line runs, Python itself ends the process.
    if process.returncode == -signum or "KeyboardInterrupt" in err:
        ours = re.search(r"cifar_jax.(?!__init__)\w+\.py", err)
        return "before its first line", err if ours else None
    right = process.returncode == 128 + signum and len(err.splitlines()) == 1
    return where, None if right else f"{process.returncode}: {err}"
