"""Files and checkpoints that are not where they belong."""

import contextlib
import io
import os
import pathlib
import random
import shutil
from collections.abc import Callable

import numpy as np
from helpers import call_in_process, state_of

from campaign_parts.attempts import Table, attempt
from campaign_parts.kills import SAVING, STEPS
from cifar_jax import RunError, load_data, load_trained, predict_logits, read_run
from cifar_jax.evaluation import comparison

# The step to which runs are resumed.
LAST = STEPS + 1
# What may take the place of a file or a folder.
NO_FILES: dict[str, Callable[[pathlib.Path], object]] = {
    "a FIFO": os.mkfifo,
    "a folder": pathlib.Path.mkdir,
    "a link to itself": lambda path: path.symlink_to(path),
    "an empty file": pathlib.Path.touch,
}


def swaps(count: int, folder: pathlib.Path, table: Table) -> None:
    """Makes `count` such changes to copies of a run, and reads and resumes it."""
    for name, changes in (("own", ()), ("other", ("--seed=1",))):
        (folder / name).mkdir()
        flags = (*SAVING, *changes, "--eval_frequency=10", "--keep_best")
        done = call_in_process("train", *flags, cwd=folder / name)
        assert done.returncode == 0, done.stderr
    own, other = folder / "own" / "run", folder / "other" / "run"
    images = load_data("digits").test.images[:8]
    steps = [int(path.name) for path in (own / "checkpoints").iterdir()]
    expected = {
        step: predict_logits(load_trained(read_run(own), step), images)
        for step in steps
    }
    compared = comparison.compare([comparison.read(read_run(own))])
    longer = folder / "longer" / "run"
    shutil.copytree(own, longer)
    resume(longer)
    end = state_of(longer, LAST)
    kinds = [exchanged, renamed, copied, linked, replaced, edited]
    for number in range(count):
        run = folder / f"swap{number}" / "run"
        shutil.copytree(own, run)
        kind = kinds[number % len(kinds)]
        words = kind(run, other)

        def check(run: pathlib.Path = run) -> str:
            said = io.StringIO()
            with contextlib.redirect_stderr(said):
                network = load_trained(read_run(run))
                logits = predict_logits(network, images)
            assert np.array_equal(logits, expected[network.step]), "silently used"
            records = comparison.compare([comparison.read(read_run(run))])
            for key in ("evaluations", "loss"):
                assert records[0][key] == compared[0][key], f"other {key}"
            resume(run)
            same = map(np.array_equal, state_of(run, LAST), end)
            assert all(same), "resumed from something else"
            return "no change" if network.step == max(steps) else "another checkpoint"

        attempt(table, f"{kind.__name__} in a run", words, check)
        shutil.rmtree(run.parent)


def resume(run: pathlib.Path) -> None:
    """Continues a run for one step; raises RunError if that is refused."""
    done = call_in_process("train", *SAVING, f"--max_steps={LAST}", cwd=run.parent)
    if done.returncode != 0:
        raise RunError(done.stderr.removesuffix("\n"))


def _some(run: pathlib.Path) -> pathlib.Path:
    """Returns a checkpoint, or a file of one or of the run."""
    checkpoints = sorted((run / "checkpoints").iterdir())
    files = [p for p in run.rglob("*") if p.is_file() and p.name != ".lock"]
    return random.choice([*checkpoints, random.choice(files)])


def exchanged(run: pathlib.Path, other: pathlib.Path) -> str:
    """Puts a checkpoint or a file of another run in the place of one."""
    path = _some(run)
    theirs = other / path.relative_to(run)
    if not theirs.exists():  # TensorBoard's files are called by the time
        theirs = next(iter(sorted(theirs.parent.iterdir())))
    (shutil.rmtree if path.is_dir() else os.unlink)(path)
    (shutil.copytree if theirs.is_dir() else shutil.copy)(theirs, path)
    return f"{theirs} as {path}"


def renamed(run: pathlib.Path, other: pathlib.Path) -> str:
    """Renames a checkpoint."""
    del other
    path = random.choice(sorted((run / "checkpoints").iterdir()))
    new = path.with_name(_new_name())
    path.rename(new)
    return f"{path} as {new}"


def copied(run: pathlib.Path, other: pathlib.Path) -> str:
    """Copies a checkpoint of this or another run under a new name."""
    path = random.choice(
        sorted((random.choice([run, other]) / "checkpoints").iterdir())
    )
    new = run / "checkpoints" / _new_name()
    shutil.copytree(path, new)
    return f"{path} as {new}"


def linked(run: pathlib.Path, other: pathlib.Path) -> str:
    """Replaces a checkpoint or a file by a link to another one."""
    path = _some(run)
    (shutil.rmtree if path.is_dir() else os.unlink)(path)
    theirs = other / path.relative_to(run)
    path.symlink_to(theirs)
    return f"a link to {theirs} as {path}"


def replaced(run: pathlib.Path, other: pathlib.Path) -> str:
    """Replaces a checkpoint or a file by what is none."""
    del other
    path = _some(run)
    (shutil.rmtree if path.is_dir() else os.unlink)(path)
    kind = random.choice(list(NO_FILES))
    with contextlib.suppress(OSError):
        NO_FILES[kind](path)
    return f"{kind} as {path}"


def edited(run: pathlib.Path, other: pathlib.Path) -> str:
    """Changes a digit in a record, or adds a line to the records."""
    del other
    path = random.choice([*(run / "eval").glob("*.jsonl"), run / "train.jsonl"])
    lines = path.read_text().splitlines()
    if random.random() < 0.5:
        number = random.randrange(len(lines))
        digits = [i for i, char in enumerate(lines[number]) if char.isdecimal()]
        at = random.choice(digits)
        new = str((int(lines[number][at]) + random.randint(1, 9)) % 10)
        lines[number] = lines[number][:at] + new + lines[number][at + 1 :]
        words = f"another digit at {at} of line {number} of {path}"
    else:
        new = random.choice(['{"step": 10}', '{"step": 1e999}', "[]", "{", "nonsense"])
        lines.insert(random.randint(1, len(lines)), new)
        words = f"{new} in {path}"
    path.write_text("\n".join(lines) + "\n")
    return words


def _new_name() -> str:
    return random.choice(["1", "12", "50", "20261128", "99999999999", "4 copy", "040"])
