"""Tests that docs/comparison.md is right about this package."""

import json
import pathlib
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
FAMILIES = {
    "tutorial": "tutorial",
    "cuda-convnet": "cuda_convnet",
    "VGG": "vgg",
    "ResNet": "resnet",
    "WideResNet": "wrn",
    "PreActResNet": "preact_resnet",
    "SENet": "senet",
    "ResNeXt": "resnext",
    "DenseNet": "densenet",
    "DPN": "dpn",
    "RegNet": "regnet",
    "GoogLeNet": "googlenet",
    "DLA": "dla",
    "PNASNet": "pnasnet",
    "MobileNetV2": "mobilenet_v2",
    "EfficientNet": "efficientnet",
    "ShuffleNet": "shufflenet",
    "LeNet": "lenet",
    "ViT": "vit",
    "ConvMixer": "conv_mixer",
    "MLP-Mixer": "mlp_mixer",
    "Airbench": "airbench",
    "MobileNet": "mobilenet",
    "Inception": "inception_v",
    "Xception": "xception",
    "InceptionResNet": "inception_resnet",
}


def test_the_networks_it_names_are_ours():
    for family, beginning in FAMILIES.items():
        assert family in OURS["networks"]
        assert any(name.startswith(beginning) for name in MODELS)


def test_the_distortions_and_optimizers_it_names_are_ours():
    distortions = OURS["distortions"].replace("translation", "translate")
    for cell, known in (
        (distortions, DISTORTIONS | MIXTURES),
        (OURS["optimizers"].lower(), OPTIMIZERS),
    ):
        names = cell.replace(" ", "_").split(",_")
        assert len(names) > 5
        assert set(names) <= known.keys()


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
