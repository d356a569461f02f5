"""Tests the common behavior of the commands."""

import pytest


@pytest.mark.parametrize(
    "name", ["train", "eval", "predict", "compare", "export", "demo"]
)
def test_help(call_command, name):
    result = call_command(name, "--help")
    assert result.returncode == 0
    assert f"python -m cifar_jax.{name}" in result.stdout
    assert "--batch_size" in result.stdout or name not in ("train", "eval")
    assert result.stderr == ""


def test_help_of_the_real_command(run_command):
    result = run_command("train", "--help")
    assert result.returncode == 0
    assert result.stdout.count("python -m cifar_jax.train") == 1
    assert "--compilation_cache" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    "flag", ["--noprofile=3", "--profile=maybe", "--unheard_of", "--max_steps=many"]
)
def test_flags_that_cannot_be_parsed_are_one_line(call_command, flag):
    result = call_command("train", flag)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "(--help lists the flags)" in result.stderr
