"""Tests that the README's scripts run and that its links and flags exist."""

import dataclasses
import pathlib
import re

import pytest

from cifar_jax import Config

ROOT = pathlib.Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_python_blocks_run_one_after_the_other(capsys):
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) >= 2
    names: dict = {}
    for block in blocks:
        exec(block, names)
    *scores, loss = capsys.readouterr().out.splitlines()
    assert [float(score.split()[0]) for score in scores] == [0.05, 0.1]
    assert all(0 <= float(score.split()[1]) <= 1 for score in scores)
    assert 4 < float(loss) < 6


def test_files_that_are_named_exist():
    for target in re.findall(r"\]\((?!http|#)([^)]+)\)", TEXT):
        assert (ROOT / target).exists(), target
    listing = TEXT.split("## Where to find what")[1].split("##")[0]
    names = re.findall(r"\b(\w+\.py)\b", listing)
    for name in names:
        assert list(ROOT.glob(f"**/{name}")), name


def test_the_first_two_lines_are_the_commands():
    indented = [line.strip() for line in TEXT.splitlines() if line.startswith("    ")]
    assert indented[:2] == [
        "pip install -e . && python -m cifar_jax.train --max_steps=1000",
        'pip install -e ".[test]" && python -m pytest',
    ]


def test_every_flag_that_is_named_exists():
    known = {field.name for field in dataclasses.fields(Config)}
    sources = [
        *((ROOT / "cifar_jax").rglob("*.py")),
        *((ROOT / "experiments").glob("*.py")),
    ]
    for source in sources:
        known |= set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source.read_text()))
    assert set(re.findall(r"--(\w+)", TEXT)) - known == {"logdir", "num_gpus"}
