"""Tests that links, commands, flags and scripts on all pages can be used.

Pages with examples that run are also followed by tests of their own.
"""

import ast
import dataclasses
import importlib
import pathlib
import re
import shlex
import tomllib

import pytest
from helpers import call_in_process
from run_experiments import call_experiment

from cifar_jax import Config
from cifar_jax.config import flags as config_flags
from experiments.harness import common

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# What docs/extending.md adds, whose own test runs it with that.
ADDED = ("all_conv", "--dataset=mapped", "my_networks")
# Flags of other programs: TensorFlow's tutorial, TensorBoard, SLURM, XLA, curl.
OTHERS = {
    "flagfile",  # of absl
    "load_fast",  # of TensorBoard
    "bytes",  # of split
    *("strict", "config-file"),  # of MkDocs
    *("num_gpus", "logdir"),
    *("nodes", "ntasks-per-node", "gpus-per-node", "signal", "requeue"),
    *("xla_force_host_platform_device_count", "data-binary"),
}

every_page = pytest.mark.parametrize("name", TEXTS)


FENCED = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S)


def block_lines(text: str) -> list[str]:
    """Returns the lines of code blocks; a line that goes on in the next is joined."""
    text = re.sub(r"\\\n\s*", " ", text)
    fenced = [line for block in FENCED.findall(text) for line in block.splitlines()]
    return fenced + re.findall(r"^ {4}(.*)$", FENCED.sub("", text), re.M)


def code(text: str) -> list[str]:
    """Returns the lines of code blocks, and what stands between backticks."""
    spans = re.findall(r"`([^`]+)`", FENCED.sub("", text))
    return block_lines(text) + [re.sub(r"\s+", " ", span) for span in spans]


def commands(lines: list[str], *words: str) -> list[list[str]]:
    """Returns the words of commands that begin with these, from the last one on."""
    beginning = " ".join(words)
    found = []
    for line in lines:
        for part in re.split(r"&&|\|", line):
            _, match, rest = part.partition(beginning)
            if match:
                given = shlex.split(words[-1] + rest, comments=True)
                found.append(given)
    return found


@every_page
def test_links_lead_somewhere(name):
    page = ROOT / name
    prose = FENCED.sub("", TEXTS[name])
    for target in re.findall(r"\]\((?!http)([^)\s]+)\)", prose):
        file, _, anchor = target.partition("#")
        path = page.parent / file if file else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
            words = [re.sub(r"[^\w\- ]", "", line.lower()) for line in headings]
            assert anchor in [line.replace(" ", "-") for line in words], target


@every_page
def test_files_that_are_named_exist(name):
    if name == "docs/extending.md":
        return  # it makes some of them
    spans = re.findall(r"`([^`\s]+)`", TEXTS[name])
    for path in spans:
        if re.fullmatch(r"(cifar_jax|docs|experiments|tests)/[\w./]*", path):
            assert (ROOT / path).exists(), path


def test_commands_are_found():
    found = [
        len(commands(code(text), "python", "-m", f"{package}."))
        for package in ("cifar_jax", "experiments")
        for text in TEXTS.values()
    ]
    assert sum(found) > 40


@every_page
def test_commands_of_the_package_can_be_parsed(name, tmp_path, monkeypatch):
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")  # files of flags
    for words in commands(code(TEXTS[name]), "python", "-m", "cifar_jax."):
        if any(word in " ".join(words) for word in ADDED):
            continue
        command, *arguments = words
        command = command.removeprefix("cifar_jax.")
        main = {"train": lambda _: config_flags.read() and None}
        module = importlib.import_module(f"cifar_jax.{command}")
        monkeypatch.setattr(module, "main", main.get(command, lambda _: None))
        done = call_in_process(command, *arguments, cwd=tmp_path)
        assert done.returncode == 0, (words, done.stderr)


@every_page
def test_commands_of_experiments_can_be_parsed(name, monkeypatch):
    monkeypatch.setattr(common, "run_guarded", lambda *_: None)
    for experiment, *arguments in commands(
        code(TEXTS[name]), "python", "-m", "experiments."
    ):
        experiment = experiment.removeprefix("experiments.")
        if experiment != "NAME":
            call_experiment(experiment, *arguments)


@every_page
def test_every_flag_that_is_named_exists(name):
    sources = [
        *(ROOT / "cifar_jax").rglob("*.py"),
        *(ROOT / "experiments").rglob("*.py"),
        ROOT / "tests" / "campaign.py",
    ]
    known = {field.name for field in dataclasses.fields(Config)}
    for source in sources:
        define = r"(?:DEFINE_\w+|define_path|add_argument)"
        known |= set(re.findall(rf'{define}\(\s*"(?:--)?(\w+)"', source.read_text()))
    known |= {f"no{flag}" for flag in known} | OTHERS
    assert set(re.findall(r"(?<![\w-])--(\w[\w-]*)", TEXTS[name])) <= known


@every_page
def test_extras_that_are_installed_exist(name):
    assert "cifar-jax[" not in TEXTS[name]  # no package index has it
    extras = PROJECT["project"]["optional-dependencies"]
    for words in commands(code(TEXTS[name]), "pip", "install"):
        for found in re.findall(r"\[([\w,]+)\]", " ".join(words)):
            assert set(found.split(",")) <= extras.keys(), words


@every_page
def test_tests_that_are_run_exist(name):
    markers = PROJECT["tool"]["pytest"]["ini_options"]["markers"]
    names = {marker.split(":")[0] for marker in markers} | {"not", "and", "or"}
    for _, *words in commands(code(TEXTS[name]), "python", "-m", "pytest"):
        for before, word in zip(["", *words], words, strict=False):
            if before == "-m":
                assert set(word.split()) <= names, words
            elif "/" in word:
                file, *test = word.split("::")
                assert (ROOT / file).exists(), words
                assert all(f"def {t}(" in (ROOT / file).read_text() for t in test)


@every_page
def test_scripts_are_python_and_import_what_exists(name):
    if name == "docs/extending.md":
        return  # followed to the letter by its own test
    for block in re.findall(r"^```python\n(.*?)^```", TEXTS[name], re.M | re.S):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("cifar_jax"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), alias.name


@pytest.mark.slow
def test_the_reports_to_xla_run(capsys):
    text = TEXTS["docs/speed.md"]
    scripts = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert len(scripts) == 2
    names: dict = {}
    for script in scripts:
        small = script.replace("(128, 32, 32, 64)", "(2, 8, 8, 4)")
        exec(small.replace("(3, 3, 64, 64)", "(3, 3, 4, 4)"), names)
    assert len(re.findall(r"\d+ ms", capsys.readouterr().out)) == 4
