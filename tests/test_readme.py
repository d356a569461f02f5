"""Tests that the README's scripts run and that what it lists exists."""

import pathlib
import re

import pytest

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


def test_files_that_are_listed_exist():
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
