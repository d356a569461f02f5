"""Tests that the scripts of the README and of docs/python.md run."""

import math
import pathlib
import re

import pytest

from cifar_jax import plugins
from cifar_jax.optimization import LOSSES
from cifar_jax.writers import jsonl

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PYTHON = (ROOT / "docs" / "python.md").read_text()
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.mark.slow
def test_the_python_blocks_run_one_after_the_other(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, *blocks = BLOCK.findall(PYTHON)
    assert len(blocks) == 9
    names: dict = {"__name__": "page"}
    # What the page registers is taken away again.
    monkeypatch.setattr(plugins, "_origins", dict(plugins._origins))
    exec(first, names)
    scores = capsys.readouterr().out.splitlines()
    assert [float(score.split()[0]) for score in scores] == [0.05, 0.1]
    assert all(0 <= float(score.split()[1]) <= 1 for score in scores)
    for block in blocks:
        exec(block, names)
    LOSSES.pop("with_entropy")
    *log, loss, curvature, counts, a, b, c, label = capsys.readouterr().out.splitlines()
    found = [line for line in log if ", test/top_5 = " in line]
    assert [f"step {step}," in line for step, line in zip((10, 20), found, strict=True)]
    assert len(jsonl.read_training(tmp_path / "hooked" / "hooks.jsonl")) == 2
    (events,) = (tmp_path / "hooked").glob("events.*")
    assert events.read_bytes().count(b"test/top_5") == 2
    assert [
        line for line in log if re.fullmatch(r"0\.\d{3} \(sd 0\.\d{3}, n 3\)", line)
    ]
    assert sorted(path.name for path in (tmp_path / "seeds").iterdir()) == [
        *("seed=0", "seed=1", "seed=2")
    ]
    assert 4 < float(loss) < 6
    assert math.isfinite(float(curvature))
    assert counts.startswith("(20, 20, ")
    assert a == b == c == "20"
    assert label in names["network"].class_names


def test_the_readmes_block_is_the_first_of_the_page():
    assert BLOCK.findall(README) == BLOCK.findall(PYTHON)[:1]


def test_files_that_are_listed_exist():
    listing = (ROOT / "docs" / "architecture.md").read_text()
    names = re.findall(r"\b(\w+\.py)\b", listing)
    assert len(names) > 40
    for name in names:
        assert list(ROOT.glob(f"**/{name}")), name


def test_the_first_two_lines_are_the_commands():
    indented = [line.strip() for line in README.splitlines() if line.startswith("    ")]
    assert indented[:2] == [
        "pip install -e . && python -m cifar_jax.train --max_steps=1000",
        'pip install -e ".[test]" && python -m pytest',
    ]
