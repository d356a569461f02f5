"""Tests that CONTRIBUTING.md describes the tests, groups and scripts that there are."""

import pathlib
import re
import tomllib

import test_layers

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PYTEST, PROJECT = SETTINGS["tool"]["pytest"], SETTINGS["project"]


def test_the_markers_are_those_of_pytest():
    markers = {marker.split(":")[0] for marker in PYTEST["ini_options"]["markers"]}
    table = TEXT.split("| marker |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == markers


def test_the_groups_are_in_the_order_of_imports():
    lines = re.findall(r"^\d+\. (.*)$", TEXT, re.M)
    named = [re.findall(r"`(\w+)`", line) for line in lines[1:-1]]
    assert named == test_layers.LAYERS[1:-1]
    assert test_layers.LAYERS[0] == ["commands"]
    assert "commands" in lines[0]
    modules = re.findall(r"`(\w+)\.py`", lines[-1])
    assert set(modules) <= test_layers.BASICS


def test_golden_values_are_made_as_their_script_says():
    script = (ROOT / "tests" / "golden" / "make_golden.py").read_text()
    commands = re.findall(r"^    (pip .*|cd .*|TF_.*)$", script.split('"""')[1], re.M)
    assert len(commands) == 3
    for command in commands:
        assert command in TEXT


def test_every_extra_is_explained():
    extras = PROJECT["optional-dependencies"]
    table = TEXT.split("| extra |")[1].split("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines()[2:]]
    assert set(re.findall(r"`(\w+)`", "".join(rows))) == extras.keys()
