"""Tests that docs/robustness.md names the files and data sets that the code knows."""

import pathlib

from cifar_jax.data.cifar import robustness
from cifar_jax.evaluation import corruption

TEXT = (pathlib.Path(__file__).parents[1] / "docs" / "robustness.md").read_text()


def test_the_page_has_the_published_files():
    for file in (*robustness.CIFAR10_1, robustness.CIFAR10_C):
        row = f"[`{file.name}`]({file.home_page}) | {file.size:,} | `{file.sha256}` |"
        assert row in TEXT


def test_the_page_has_the_commands_and_what_they_write():
    for name in robustness.SETS:
        assert f"--eval_data={name}" in TEXT
        assert f"`{name}.jsonl`" in TEXT
    for name in corruption.FILES:
        assert f"`{name}`" in TEXT
