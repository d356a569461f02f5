"""Tests the 15% study."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import DictKey
from run_experiments import run_experiment

from cifar_jax import Config
from cifar_jax.studies import space
from cifar_jax.training.program import build
from experiments.accuracy.fifteen_percent import NETWORK, SPACE

VARIED = space.read([f"{name}={values}" for name, values in SPACE.items()], NETWORK)
PUBLISHED = space.starts(VARIED, NETWORK)


def program(setting):
    numbers = {"weight_decay": 1.0, "eval_frequency": 0}
    return build(Config(**space.flags(setting, NETWORK) | numbers), 10)


def decays(made):
    paths = [(DictKey(layer), DictKey("kernel")) for layer in made.model.weight_decays]
    return [made.weight_decay.rate(path) for path in paths]


def test_the_published_setting_is_the_recipe():
    ours, theirs = program(PUBLISHED), build(Config(recipe="cuda_convnet_18pct"), 10)
    assert decays(ours) == pytest.approx(decays(theirs))
    assert ours.model == theirs.model


def test_a_setting_reaches_the_training():
    setting = PUBLISHED | {"weight_decay_conv2": "0.3", "lrn_power": "0.0"}
    made = program(setting)
    assert decays(made) == [0.004, 0.3, 0.004, 1.0]
    x = jnp.ones((3, 3, 2, 1))
    np.testing.assert_array_equal(made.model.norm(x), x)
    assert np.all(program(PUBLISHED).model.norm(x) < x)


@pytest.mark.slow
def test_the_experiment(tmp_path):
    arguments = [
        *("--quick", "--sampler=tpe", "--dataset=digits"),
        *(f"--out_dir={tmp_path / 'out'}", f"--results_dir={tmp_path}"),
    ]
    first = run_experiment("accuracy.fifteen_percent", *arguments, tmp_path=tmp_path)
    record = json.loads((tmp_path / "fifteen_percent.json").read_text())
    random, tpe = record["searches"].values()
    assert {trial["number"] for trial in tpe} == {0, 1}
    # They differ only once the sampler draws its own.
    settings = [trial["setting"] for trial in tpe]
    alike = [trial for trial in random if trial["setting"] in settings]
    assert len(alike) == record["settings"]["initial"] == 1
    published = record["final"]["published"]["setting"]
    flags = {"learning_rate": "0.001", "lrn_scale": "5e-05", "max_steps": "4"}
    assert published == PUBLISHED | flags
    assert all(len(found["precision"]) == 1 for found in record["final"].values())
    assert (tmp_path / "fifteen_percent.png").stat().st_size > 5000
    # Everything is finished, so the same command only prints the tables again.
    again = run_experiment("accuracy.fifteen_percent", *arguments, tmp_path=tmp_path)
    assert again == first
    assert again.splitlines()[-3].startswith("| 0       | published |")
