"""Tests that docs/comparison.md is right about this package."""

import json
import pathlib
import re
import statistics

import pytest
from run_experiments import quoted

from cifar_jax.data.distortions import DISTORTIONS, MIXTURES
from cifar_jax.models import MODELS
from cifar_jax.optimization import OPTIMIZERS

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "comparison.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("|")
]
OURS = {row[0]: row[1] for row in ROWS if len(row) == 6}
# How the page calls the networks, and how their names begin.
FAMILIES = {
    "tutorial": ("tutorial",),
    "cuda-convnet": ("cuda_convnet",),
    "VGG": ("vgg",),
    "ResNet": ("resnet",),
    "Airbench": ("airbench", "sprint"),
    "MobileNet": ("mobilenet",),
    "Inception": ("inception_v",),
    "Xception": ("xception",),
    "InceptionResNet": ("inception_resnet",),
}
TESTS_OWN = {"small", "batch_norm"}


def test_the_networks_are_ours():
    for family in FAMILIES:
        assert family in OURS["networks"]
    beginnings = tuple(name for names in FAMILIES.values() for name in names)
    for name in MODELS.keys() - TESTS_OWN:
        assert name.startswith(beginnings)
    for name in beginnings:
        assert any(model.startswith(name) for model in MODELS)


def test_the_networks_that_are_missing_are_missing():
    names = re.search(r"This\s+package\s+lacks\s+(.*?)\.", TEXT, re.S)[1]
    missing = re.split(r",\s+(?:and\s+)?", names)
    assert len(missing) == 14
    ours = {name.replace("_", "") for name in MODELS}
    assert not {name.lower() for name in missing} & ours


def test_distortions_and_optimizers_are_ours():
    names = {name.replace(" ", "_") for name in OURS["distortions"].split(", ")}
    found = {"translate" if name == "translation" else name for name in names}
    # A crop at the center is not random.
    assert found == (DISTORTIONS | MIXTURES).keys() - {"center_crop"}
    names = OURS["optimizers"].lower().replace(" ", "_").split(",_")
    assert set(names) == set(OPTIMIZERS)


@pytest.mark.parametrize(
    ("file", "seconds", "digits"),
    [
        ("sprint", "train_seconds", 0),
        ("sprint_gpu", "seconds_with_evaluation", 2),
    ],
)
def test_accuracies_and_seconds_are_those_that_were_measured(file, seconds, digits):
    path = quoted(file)
    runs = json.loads(path.read_text())["runs"]
    found = {row[0].split("`")[1]: row for row in ROWS if row[0].count("`") == 2}
    compared = 0
    for run in runs:
        row = found.get(run["name"].removesuffix(" (PyTorch)"))
        if row is None:
            continue
        accuracies = [100 * result["accuracy"] for result in run["results"]]
        assert row[1] == str(len(accuracies))
        assert row[2] == f"{statistics.mean(accuracies):.2f}%"
        assert row[3] == f"{statistics.stdev(accuracies):.2f}"
        median = statistics.median(result[seconds] for result in run["results"])
        assert row[4] == f"{median:,.{digits}f}"
        compared += 1
    assert compared >= 1


def lines(folder: str) -> int:
    """Returns the number of lines of Python in a folder."""
    files = (ROOT / folder).rglob("*.py")
    return sum(len(file.read_text().splitlines()) for file in files)


def test_the_code_is_as_large_as_it_says():
    package, experiments = re.findall(r"[\d,]+,000", OURS["lines of Python"])
    functions, tests = re.findall(r"[\d,]*\d", OURS["tests"])
    for words, folder in (
        (package, "cifar_jax"),
        (experiments, "experiments"),
        (tests, "tests"),
    ):
        count = int(words.replace(",", ""))
        assert lines(folder) == pytest.approx(count, rel=0.2), folder
    found = sum(
        len(re.findall("^def test_", file.read_text(), re.M))
        for file in (ROOT / "tests").rglob("test_*.py")
    )
    least = int(functions.replace(",", ""))
    assert least <= found < 1.2 * least


def test_there_are_as_many_folders_as_it_says():
    folders = list((ROOT / "cifar_jax").glob("*/__init__.py"))
    assert f"in {len(folders)} folders" in OURS["what a newcomer must learn"]
