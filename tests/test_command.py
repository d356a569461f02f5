"""Tests the common behavior of the commands."""

import dataclasses
import re

import pytest
from helpers import assert_one_line

from cifar_jax import Config
from cifar_jax.config import flags as config_flags


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
    lines = result.stdout.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 88
    assert "  --max_steps=1000000         Train until this step" in lines
    assert "--compilation_cache" not in result.stdout
    assert "\n--helpfull explains these and " in result.stdout
    assert result.stderr == ""


def test_the_whole_help_has_every_flag_in_groups(run_command):
    text = run_command("train", "--helpfull").stdout
    names = re.findall(r"^  --(?:\[no\])?(\w+)$", text, re.MULTILINE)
    assert {field.name for field in dataclasses.fields(Config)} < {*names}
    assert {"compilation_cache", "import", "progress", "help"} < {*names}
    titles = re.findall(r"^(\w.*):$", text, re.MULTILINE)
    assert titles == [*config_flags.GROUPS.values(), "Command"]
    assert not re.search(r"\d\.\d{12}", text)


@pytest.mark.parametrize(
    "flag",
    [
        *("--noprofile=3", "--profile=maybe", "--unheard_of", "--max_steps=many"),
        *("--keep=few", "--flagfile=nowhere"),
    ],
)
def test_flags_that_cannot_be_parsed_are_one_line(call_command, flag):
    result = call_command("train", flag)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "(--helpfull lists the flags)" in result.stderr
    assert "ERROR" not in result.stderr


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
    assert f"{address} is an address; mount it (" in result.stderr
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
