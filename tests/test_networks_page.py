"""Follows the worked example of experiments/networks.md to the letter."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from helpers import environment

from cifar_jax import models

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "experiments" / "networks.md").read_text()
TESTS_OWN = {"small", "batch_norm"}
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def insert(path: pathlib.Path, before: str, lines: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, lines + before))


def append(path: pathlib.Path, after: str, lines: str) -> None:
    text = path.read_text()
    assert text.count(after) == 1
    path.write_text(text.replace(after, after + lines))


@pytest.fixture
def package(tmp_path):
    """Returns a copy of the package, changed as the page describes."""
    package = tmp_path / "cifar_jax"
    shutil.copytree(ROOT / "cifar_jax", package)
    _, network, registry, recipe = BLOCKS
    (package / "models" / "all_conv.py").write_text(network)
    import_, line = registry.split("\n\n")
    init = package / "models" / "__init__.py"
    insert(init, "from cifar_jax.models.cuda_convnet import", import_ + "\n")
    append(init, "MODELS: dict[str, Callable[..., Network]] = {\n", line)
    append(package / "recipes.py", "RECIPES: dict[str, Recipe] = {\n", recipe)
    return package


@pytest.mark.slow
def test_the_worked_example_trains(package, tmp_path):
    def run(line: str, *more: str) -> str:
        words = line.split()
        assert words[0] == "python"
        done = subprocess.run(
            [sys.executable, *words[1:], *more],
            cwd=tmp_path,
            env=environment(tmp_path) | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    train, evaluate = re.findall(r"^    (python .*all_conv)$", TEXT, re.MULTILINE)
    log = run(train, "--dataset=digits", "--max_steps=2", "--batch_size=8")
    assert "network all_conv with 1,369,738 parameters" in log
    assert "precision @ 1" in run(evaluate, "--num_examples=100")


@pytest.mark.parametrize("words", [("check",), ("format", "--check")])
def test_the_worked_example_is_clean(package, words):
    pytest.importorskip("ruff")
    config = f"--config={ROOT / 'pyproject.toml'}"
    changed = (str(package / name) for name in ("models", "recipes.py"))
    subprocess.run([sys.executable, "-m", "ruff", *words, config, *changed], check=True)


def test_the_first_block_runs_and_the_table_names_every_network():
    names: dict = {}
    exec(BLOCKS[0], names)
    assert names["model"].num_classes == 100
    table = "".join(line for line in TEXT.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", table)) == models.MODELS.keys() - TESTS_OWN
