"""Tests that what docs/course.md names exists."""

import importlib
import pathlib
import re

import pytest

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


def networks() -> list[tuple[str, ...]]:
    """Returns the rows of the page's table of networks."""
    rows = TEXT.split("| network | MB")[1].split("\n\n")[0].splitlines()[2:]
    return [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows]


@pytest.mark.slow
def test_the_table_of_networks_is_what_the_command_prints():
    assert networks() == layers.networks()


def test_the_networks_are_those_of_the_course():
    # Name, MB, top-1, top-5 and parameters as the slide has them; a file is a little
    # larger than its parameters.
    slide = {
        "xception": (88, 0.790, 0.945, 22_910_480),
        "vgg16": (528, 0.715, 0.901, 138_357_544),
        "vgg19": (549, 0.727, 0.910, 143_667_240),
        "resnet50": (99, 0.759, 0.929, 25_636_712),
        "inception_v3": (92, 0.788, 0.944, 23_851_784),
        "inception_resnet_v2": (215, 0.804, 0.953, 55_873_736),
        "mobilenet": (17, 0.665, 0.871, 4_253_864),
    }
    found = {
        name: (float(size), float(top_1), float(top_5), int(count.replace(",", "")))
        for name, size, top_1, top_5, count in networks()
    }
    assert found.keys() == slide.keys()
    for name, (size, *rest) in slide.items():
        assert list(found[name][1:]) == rest
        assert 0 <= size - found[name][0] <= 2
