"""Tests that what docs/course.md names exists."""

import importlib
import pathlib
import re

from cifar_jax import Config
from experiments import layers

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "course.md").read_text()


def test_all_parts_of_the_package_exist():
    table = TEXT.split("## What shows")[0].split("| --- | --- | --- |")[1]
    rows = [line.split("|")[3] for line in table.splitlines() if "|" in line]
    names = [
        name for row in rows for name in re.findall(r"`([a-z]\w*(?:\.\w+)+)`", row)
    ]
    assert len(names) > 35
    for name in names:
        find(name.split("."))


def find(parts: list[str]) -> object:
    """Returns the module, class or function of the package with this name."""
    path, found = "cifar_jax", importlib.import_module("cifar_jax")
    for part in parts:
        path += f".{part}"
        try:
            found = importlib.import_module(path)
        except ModuleNotFoundError:
            found = getattr(found, part)
    return found


def test_all_flags_and_experiments_exist():
    table = TEXT.split("## What shows")[0]
    for flag in re.findall(r"`--(\w+)`", table):
        assert flag in Config.__dataclass_fields__, flag
    commands = TEXT.split("| slide | command |")[1].split("\n\n")[0]
    for name in re.findall(r"^\| [^|]* \| `(\w+)[ `]", commands, re.MULTILINE):
        if name != "python":
            assert (ROOT / "experiments" / f"{name}.py").exists(), name
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target


def test_the_table_of_networks_is_what_the_command_prints():
    rows = TEXT.split("| network | MB")[1].split("\n\n")[0].splitlines()[2:]
    printed = [
        tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows
    ]
    assert printed == layers.networks()
