"""Tests that the network of the package is what its model card says."""

import re

import safetensors
from safetensors.numpy import load_file

from cifar_jax import load_exported
from cifar_jax.data.cifar import cifar10
from cifar_jax.models import safetensors_files
from cifar_jax.training.trained import PRETRAINED

CARD = (PRETRAINED.parent / "README.md").read_text()


def test_the_file_is_small_and_of_float16():
    assert PRETRAINED.stat().st_size <= 4_500_000
    for name, value in load_file(PRETRAINED).items():
        # By these, inputs are normalized.
        kind = "float32" if name.startswith("statistics/") else "float16"
        assert value.dtype == kind, name
    megabytes = PRETRAINED.stat().st_size / 1e6
    assert f"| weights | float16, {megabytes:.1f} MB |" in CARD


def test_the_card_has_the_record_of_the_file():
    record = safetensors_files.read(PRETRAINED).description
    assert f"--recipe={record['model']} --max_steps={record['step']}" in CARD
    assert record["parameters"] == "averaged"
    assert record["data_fingerprint"] == cifar10.OFFICIAL.ordered
    assert record["data_fingerprint"] in CARD


def test_the_card_has_the_number_of_parameters():
    with safetensors.safe_open(PRETRAINED, "np") as file:
        sizes = [
            file.get_tensor(name).size
            for name in file.keys()  # noqa: SIM118
            if name.startswith("params/")
        ]
    (stated,) = re.findall(r"([\d,]+) parameters", CARD)
    assert sum(sizes) == int(stated.replace(",", ""))


def test_it_is_a_network_for_cifar10():
    network = load_exported()
    assert network.class_names == cifar10.LABELS.class_names
    assert network.image_shape == (32, 32, 3)
