"""Tests the common behavior of the commands."""

import pytest
from helpers import assert_one_line

from cifar_jax import Config


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


def test_the_tutorials_flags_that_are_renamed_name_the_new_one(call_command):
    result = call_command("train", "--num_gpus=2")
    assert_one_line(result, 2, "there is no --num_gpus; write --num_devices")


@pytest.mark.parametrize("address", ["gs://b/run", "s3:/b", "https://example.org/x"])
@pytest.mark.parametrize(
    ("name", "flag"),
    [
        *(("train", flag) for flag in ("train_dir", "data_dir", "init_from")),
        ("train", "compilation_cache"),
        *(("eval", flag) for flag in ("checkpoint_dir", "eval_dir", "report")),
        *(("predict", "weights"), ("export", "out"), ("compare", "plot")),
    ],
)
def test_addresses_are_no_paths(name, flag, address, call_command, tmp_path):
    result = call_command(name, f"--{flag}={address}")
    assert_one_line(result, 2, f"--{flag}={address}")
    assert f"{address} is an address; mount what is there" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_tilde_is_the_home_directory(call_command, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    for name in ("train_dir", "data_dir", "init_from"):
        config = Config(**{name: "~/there"})
        assert getattr(config, name) == str(tmp_path / "home" / "there")
    result = call_command("eval", "--checkpoint_dir=~/there")
    assert_one_line(result, 2, f"no run in {tmp_path / 'home' / 'there'}")
    assert list(tmp_path.iterdir()) == []
