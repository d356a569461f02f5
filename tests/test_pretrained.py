"""Tests that the network of the package is what its model card says."""

import re

import pytest
import safetensors
from safetensors.numpy import load_file

from cifar_jax import Config, UserError, load_exported, models
from cifar_jax.data.cifar import cifar10
from cifar_jax.models import safetensors_files
from cifar_jax.training import initial, trained
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


@pytest.mark.parametrize("damage", ["one bit", "another file"])
def test_it_is_used_as_it_came(damage, tmp_path, monkeypatch):
    path = tmp_path / "airbench94.safetensors"
    monkeypatch.setattr(trained, "PRETRAINED", path)
    contents = bytearray(PRETRAINED.read_bytes())
    path.write_bytes(contents)
    assert load_exported(path).class_names == cifar10.LABELS.class_names
    if damage == "one bit":
        contents[-7] ^= 1
    else:
        found = safetensors_files.read(PRETRAINED)
        description = {**found.description, "step": 251}
        trees = {**found.variables, "statistics": found.statistics}
        contents = safetensors_files.to_bytes(description, trees)
    path.write_bytes(contents)
    model = models.create("airbench94")
    config = Config(recipe="airbench94", train_dir=None)
    for load in (
        lambda: load_exported(path),
        lambda: load_exported(str(path)),
        lambda: initial.load("pretrained", config, model, tuple("0123456789")),
    ):
        with pytest.raises(UserError, match="its digest does not match"):
            load()
