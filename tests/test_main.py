"""Tests `cifar-jax`, which is `python -m cifar_jax`."""

import pathlib
import subprocess
import sys

import pytest
from helpers import environment

import cifar_jax
from cifar_jax.__main__ import COMMANDS


@pytest.fixture
def run(tmp_path):
    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "cifar_jax", *words],
            cwd=tmp_path,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def test_it_lists_the_commands(run):
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert run("--help").stdout == done.stdout
    package = pathlib.Path(cifar_jax.__file__).parent
    for name, text in COMMANDS.items():
        assert f"    {name:<10}{text}\n" in done.stdout
        assert "command.run(" in (package / f"{name}.py").read_text()
    others = {p.stem for p in package.glob("*.py") if "command.run(" in p.read_text()}
    assert others == COMMANDS.keys()


@pytest.mark.slow
def test_it_runs_a_command(run):
    done = run("train", "--dataset=digits", "--max_steps=1", "--batch_size=8")
    assert done.returncode == 0, done.stderr
    assert "step 0, loss = " in done.stdout


def test_it_passes_errors_on(run):
    done = run("compare", "missing")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no run in missing")


def test_an_unknown_command_is_one_line(run):
    done = run("trian")
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no command 'trian'; choose from")
    assert done.stderr.count("\n") == 1


def test_the_version(run):
    assert run("--version").stdout == f"cifar_jax {cifar_jax.__version__}\n"
