"""Tests that commands name the extra they lack, in one line."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from helpers import assert_one_line, environment

from cifar_jax import UserError, extras

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Modules that the extras install and a core installation lacks.
MODULES = {
    "report": ("matplotlib", "sklearn"),
    "demo": ("matplotlib", "sklearn", "starlette", "uvicorn"),
    "study": ("matplotlib", "sklearn", "optuna"),
    "heif": ("pillow_heif",),
    "weights": ("h5py",),
    "parquet": ("pyarrow",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
}
EVERY = sorted({module for modules in MODULES.values() for module in modules})
PRELUDE = """
import importlib.abc, runpy, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def run(folder: Path, module: str, *words: str) -> subprocess.CompletedProcess:
    """Runs a module in a folder as if only the core were installed."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE.format(names=EVERY), module, *words],
        cwd=folder,
        env=environment(folder) | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "words", "what", "extra"),
    [
        (
            "predict",
            "--show cat.png",
            "=predictions.png needs matplotlib",
            "report",
        ),
        (
            "compare",
            "--plot=new.png run",
            "--plot=new.png needs matplotlib",
            "report",
        ),
        ("eval", "--report=new", "--report=new needs matplotlib", "report"),
        ("demo", "", "the page needs matplotlib", "demo"),
        ("study", "", "a study needs optuna", "study"),
        (
            "predict",
            "--model=resnet50 --weights=resnet50.h5 cat.png",
            "reading resnet50.h5 needs h5py",
            "weights",
        ),
        (
            "train",
            "--dataset=cifar10 --data_dir=parquet",
            "reading .parquet files in parquet needs pyarrow",
            "parquet",
        ),
        ("predict", "photo.heic", "needs pillow-heif", "heif"),
        (
            "train",
            "--dataset=digits --writers=jsonl,wandb",
            "--writers=wandb needs wandb",
            "wandb",
        ),
        (
            "train",
            "--dataset=digits --writers=mlflow",
            "--writers=mlflow needs mlflow",
            "mlflow",
        ),
    ],
)
def test_commands_say_what_to_install(tmp_path, command, words, what, extra):
    (tmp_path / "resnet50.h5").touch()
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (tmp_path / "parquet").mkdir()
    for split in ("train", "test"):
        (tmp_path / "parquet" / f"{split}-00000-of-00001.parquet").touch()
    done = run(tmp_path, f"cifar_jax.{command}", *words.split())
    assert_one_line(done, 2, what, f"pip install 'cifar-jax[{extra}]'")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["course.noise", "accuracy.fifteen_percent"])
def test_experiments_say_what_to_install(tmp_path, name):
    done = run(tmp_path, f"experiments.{name}", "--help")
    message = "error: an experiment needs matplotlib: pip install 'cifar-jax[report]'\n"
    assert (done.returncode, done.stderr) == (2, message)


@pytest.mark.slow
def test_the_core_trains_evaluates_and_predicts(tmp_path):
    words = ("--dataset=digits", "--batch_size=8", "--max_steps=2", "--train_dir=run")
    done = run(tmp_path, "cifar_jax.train", *words, "--eval_frequency=2")
    assert done.returncode == 0, done.stderr
    metrics = "top_k(5), ece, nll, balanced_accuracy, per_class"
    for command, *words in (
        ("eval", "--checkpoint_dir=run", f"--eval_metrics={metrics}"),
        ("compare", "run"),
        ("export", "--checkpoint_dir=run", "--out=out"),
        ("predict", "--weights=out", str(ROOT / "docs" / "demo.png")),
    ):
        done = run(tmp_path, f"cifar_jax.{command}", *words)
        assert done.returncode == 0, (command, done.stderr)


def test_a_module_that_is_missing_is_named():
    message = r"^this needs nowhere_at_all: pip install 'cifar-jax\[report\]'$"
    with pytest.raises(UserError, match=message):
        extras.require("this", "report", "numpy", "nowhere_at_all")


def test_a_module_that_is_there_is_enough():
    extras.require("this", "report", "numpy")


def test_extras_that_messages_name_exist():
    known = PROJECT["optional-dependencies"].keys()
    for folder in ("cifar_jax", "experiments"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            found = re.findall(r"extras\.require\(.*?, \"(\w+)\"", text)
            found += re.findall(r"cifar-jax\[(\w+)\]", text)
            found += re.findall(r"way_out\([\"'](\w+)", text)
            assert {*found} <= known, path
