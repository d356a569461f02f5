"""Follows the examples of docs/extending.md to the letter."""

import importlib.util
import itertools
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from helpers import environment

from cifar_jax import models, plugins
from cifar_jax.data import distortions
from experiments.harness import flops

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "extending.md").read_text()
BLOCK = r"```python\n(.*?)```"
FILES = re.findall(rf"^`(cifar_jax/\S+\.py)`:\n\n{BLOCK}", TEXT, re.M | re.S)
ENTRIES = re.findall(rf"^`(\w+)` in `(cifar_jax/\S+)`:\n\n{BLOCK}", TEXT, re.M | re.S)
OWN_FILE = rf"^`(\w+\.py)`, in any folder:\n\n{BLOCK}"
[(OWN, OWN_TEXT)] = re.findall(OWN_FILE, TEXT, re.M | re.S)
OTHERS = {block for *_, block in FILES + ENTRIES} | {OWN_TEXT}
SCRIPTS = [block for block in re.findall(BLOCK, TEXT, re.S) if block not in OTHERS]


def add(path: pathlib.Path, registry: str, block: str) -> None:
    """Adds an import, if there is one, and an entry to a registry."""
    text = path.read_text()
    *imports, entry = block.split("\n\n")
    for line in imports:
        # Before the first import of this package; ruff sorts them.
        text = text.replace("\nfrom cifar_jax", f"\n{line}\nfrom cifar_jax", 1)
    opening = re.search(rf"^{registry}: .*?\{{\n(?=( *))", text, re.M | re.S)
    entry = textwrap.indent(textwrap.dedent(entry), opening[1])
    path.write_text(text.replace(opening[0], opening[0] + entry))


@pytest.fixture
def package(tmp_path):
    """Returns a copy of the package, changed as the page describes."""
    shutil.copytree(ROOT / "cifar_jax", tmp_path / "cifar_jax")
    for name, content in FILES:
        (tmp_path / name).write_text(content)
    for registry, name, block in ENTRIES:
        if block.split("\n\n")[-1] not in (tmp_path / name).read_text():
            add(tmp_path / name, registry, block)
    if not importlib.util.find_spec("ruff"):
        return tmp_path / "cifar_jax"  # unsorted imports run as well
    sort = ("check", "--quiet", "--select=I", "--fix", str(tmp_path / "cifar_jax"))
    subprocess.run([sys.executable, "-m", "ruff", *sort, CONFIG], check=True)
    return tmp_path / "cifar_jax"


CONFIG = f"--config={ROOT / 'pyproject.toml'}"


def run(
    folder: pathlib.Path, line: str, *more: str, package: pathlib.Path | None = None
) -> str:
    """Runs a command of the page in a folder; returns what it prints."""
    words = shlex.split(line)
    assert words[0] == "python"
    done = subprocess.run(
        [sys.executable, *words[1:], *more],
        cwd=folder,
        env=environment(folder) | {"PYTHONPATH": str(package or folder)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_is_an_example_of_everything():
    assert {registry for registry, _, _ in ENTRIES} >= {
        *("DATASETS", "DATA_CHANGES", "DISTORTIONS", "VIEWS", "MODELS", "LOSSES"),
        *("OPTIMIZERS", "METRICS", "EVAL_METRICS", "WRITERS", "RECIPES"),
    }


@pytest.mark.slow
def test_the_examples_train_and_evaluate(package, tmp_path):
    *_, train, _, train_all, evaluate_all = re.findall(
        r"^    (python -m .*)$", TEXT, re.MULTILINE
    )
    small = ("--max_steps=2", "--batch_size=8", "--log_frequency=1")
    log = run(tmp_path, train, "--dataset=digits", *small)
    assert "network all_conv with 1,369,738 parameters" in log

    random = np.random.default_rng(0)
    arrays = {"class_names": ["sand", "sea", "sky"]}
    for split in ("train", "test"):
        shape = (16, 40, 40, 3)
        arrays[f"{split}_images"] = random.integers(256, size=shape, dtype=np.uint8)
        arrays[f"{split}_labels"] = random.integers(3, size=16)
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    log = run(tmp_path, train_all.replace("DIR", str(tmp_path)), *small)
    assert "mapped: 15 training and 16 test images" in log
    assert "step 1, loss = " in log
    assert ", update_ratio = " in log
    assert "; brier = " in log
    rows = (tmp_path / "own" / "summaries.csv").read_text().splitlines()
    assert any(row.startswith("train,0,update_ratio,") for row in rows)
    assert any(row.startswith("eval/test,2,brier,") for row in rows)
    assert "precision @ 1" in run(tmp_path, evaluate_all)


@pytest.mark.slow
def test_a_file_of_ones_own_trains_and_evaluates(tmp_path):
    (tmp_path / OWN).write_text(OWN_TEXT)
    small = ("--dataset=digits", "--max_steps=2", "--batch_size=8")
    train, tune, evaluate = re.findall(rf"^    (python -m .*{OWN}.*)$", TEXT, re.M)
    assert "network small_resnet(widths=(8, 16)) with" in run(
        tmp_path, train, *small, package=ROOT
    )
    assert "starting from the weights of small" in run(
        tmp_path, tune, *small, package=ROOT
    )
    assert "precision @ 1" in run(tmp_path, evaluate, package=ROOT)


def test_the_table_has_every_kind():
    table = TEXT.split("| `register` | flag |")[1].split("\n\n")[0]
    kinds = [row.split("|")[1] for row in table.splitlines()[2:]]
    assert set(re.findall(r"`(\w+)`", "".join(kinds))) == plugins.KINDS.keys()
    for row in table.splitlines()[2:]:
        kinds, _, places = (re.findall(r"`([\w/.-]+)`", c) for c in row.split("|")[1:4])
        *registries, file = places
        module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for kind, registry in zip(kinds, registries, strict=True):
            assert plugins.KINDS[kind] == f"{module}:{registry}"


@pytest.mark.parametrize("words", [("check",), ("format", "--check")])
def test_a_file_of_ones_own_is_clean(words, tmp_path):
    pytest.importorskip("ruff")
    (tmp_path / OWN).write_text(OWN_TEXT)
    command = [sys.executable, "-m", "ruff", *words, CONFIG, OWN]
    subprocess.run(command, check=True, cwd=tmp_path)


@pytest.mark.parametrize("words", [("check",), ("format", "--check")])
def test_the_examples_are_clean(package, words):
    pytest.importorskip("ruff")
    names = [name for name, _ in FILES] + [name for _, name, _ in ENTRIES]
    files = [str(package.parent / name) for name in names]
    command = [sys.executable, "-m", "ruff", *words, CONFIG, *files]
    subprocess.run(command, check=True, cwd=package.parent)


@pytest.mark.slow
def test_the_scripts_run(capsys):
    assert SCRIPTS
    for script in SCRIPTS:
        names: dict = {}
        exec(script, names)
    assert 0 <= float(capsys.readouterr().out) <= 1


NETWORKS = TEXT.split("| name | form |")[1].split("\n\n")[0].splitlines()[2:]


@pytest.mark.parametrize("row", NETWORKS)
def test_the_table_of_networks_has_their_parameters_and_operations(row):
    names, form, *columns = (cell.strip() for cell in row.strip("|").split("|"))
    names = re.findall(r"`(\w+)`", names)
    assert names
    assert set(names) <= models.MODELS.keys()
    if columns != ["below", "below"]:
        sizes = re.findall(r"\b(32|24)x\1", form) or ["32"]
        costs = [
            flops.forward(models.create(name, 10), int(size))
            for name, size in zip(names, itertools.cycle(sizes), strict=False)
        ]
        assert columns == [
            listed(f"{parameters:,}" for parameters, _ in costs),
            listed(f"{operations / 1e9:#.3g}" for _, operations in costs),
        ]


def test_the_page_has_the_operations_of_the_networks_of_keras():
    names = ("vgg16", "vgg19", "resnet50", "mobilenet")
    names += ("xception", "inception_v3", "inception_resnet_v2")
    operations = [
        flops.forward(models.create(name), 224 if index < 4 else 299)[1]
        for index, name in enumerate(names)
    ]
    takes = listed(f"{count / 1e9:#.3g}" for count in operations)
    assert f"pass takes {takes} GFLOP" in " ".join(TEXT.split())


def listed(texts):
    """Returns a list in words, without repetitions."""
    *others, last = dict.fromkeys(texts)
    if len(others) > 1:
        return f"{', '.join(others)}, and {last}"
    return " and ".join([*others, last])


def test_the_distortions_of_the_table_are_all_there_are():
    rows = TEXT.split("| name and options |")[1].split("\n\n")[0].splitlines()[2:]
    cells = [text for row in rows for text in re.findall(r"`(.*?)`", row.split("|")[1])]
    assert {cell.split("(")[0] for cell in cells} == set(distortions.CHOICES)
    for cell in cells:
        name = cell.split("(")[0]
        if name not in ("choice", "random_resized_crop"):
            assert distortions.parse(cell) == distortions.parse(name)
        assert distortions.parse(cell)
