"""Tests that the files that docs/architecture.md says to read first are as few."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PATH = re.findall(r"^\d+\. `(cifar_jax/\S+\.py)`", PAGE, re.M)


def test_the_path_is_twelve_files_of_at_most_1500_lines():
    lines = {name: len((ROOT / name).read_text().splitlines()) for name in PATH}
    assert len(lines) == 12
    assert sum(lines.values()) <= 1500, lines


def test_the_loop_and_the_step_know_no_hook_and_no_writer():
    for name in ("loop", "steps", "compiled", "program", "train_state"):
        text = (ROOT / "cifar_jax" / "training" / f"{name}.py").read_text()
        assert "training.hooks" not in text
        assert "runs" not in re.findall(r"from cifar_jax\.(\w+)", text)
