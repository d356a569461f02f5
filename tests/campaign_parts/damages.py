"""Damaged files of runs."""

import contextlib
import io
import pathlib
import re

import numpy as np
from helpers import call_in_process

from campaign_parts.attempts import Table, attempt, damaged
from campaign_parts.kills import train
from cifar_jax import load_data, load_trained, predict_logits, read_run
from cifar_jax.evaluation import comparison


def damages(count: int, folder: pathlib.Path, table: Table) -> None:
    """Damages one file of a run at a time, `count` times, and reads the run."""
    train(folder)
    run = folder / "run"
    call_in_process("eval", "--checkpoint_dir=run", cwd=folder)
    images = load_data("digits").test.images[:8]
    steps = [int(path.name) for path in (run / "checkpoints").iterdir()]
    expected = {
        step: predict_logits(load_trained(read_run(run), step), images)
        for step in steps
    }
    class_names = read_run(run).class_names
    intact = comparison.read(read_run(run))

    def read() -> str:
        found = comparison.read(read_run(run))
        comparison.compare([found])
        assert is_part(found.training, intact.training), "changed summaries"
        for split, records in found.evaluations.items():
            assert is_part(records, intact.evaluations[split]), "a changed evaluation"
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            network = load_trained(read_run(run))
        assert np.array_equal(predict_logits(network, images), expected[network.step])
        assert network.class_names == class_names
        older = network.step != max(steps)
        assert not older or "is damaged" in said.getvalue(), "without a reason"
        return "an older checkpoint" if older else "no change"

    files = sorted(p for p in run.rglob("*") if p.is_file() and p.name != ".lock")
    # Alternate between the newest checkpoint, older ones and all other files.
    newest = [path for path in files if str(max(steps)) in path.parts]
    others = [path for path in files if "checkpoints" not in path.parts]
    groups = (newest, sorted({*files} - {*newest, *others}), others)
    for i in range(count):
        path = groups[i % 3][i // 3 % len(groups[i % 3])]
        with damaged(path) as words:
            attempt(table, f"damage of {kind_of(path)}", f"{path}: {words}", read)


def is_part(found: list, whole: list) -> bool:
    """Whether records are the first ones of a file, whose end may have been cut off."""
    return found == whole[: len(found)]


def kind_of(path: pathlib.Path) -> str:
    if "checkpoints" in path.parts:
        return "SHA256SUMS" if path.name == "SHA256SUMS" else "a checkpoint"
    return re.sub(r"events\.out.*", "TensorBoard's files", path.name)
