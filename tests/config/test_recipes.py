"""Tests the settings of recipes, and training and evaluation with them."""

import json

import pytest
from PIL import Image

from cifar_jax import Config
from cifar_jax.config.recipes import RECIPES


def test_the_default_is_the_tutorial():
    assert Config() == Config(recipe="tutorial")
    assert RECIPES["tutorial"].settings == {}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_sets_the_config_and_single_values_override_it(recipe):
    config = Config(recipe=recipe, seed=3, max_steps=7)
    assert (config.seed, config.max_steps) == (3, 7)
    settings = dict(RECIPES[recipe].settings)
    settings.pop("max_steps", None)
    assert {name: getattr(config, name) for name in settings} == settings
    assert Config(recipe=recipe, batch_size=512).batch_size == 512


def test_help_describes_each_recipe(run_command):
    text = " ".join(run_command("train", "--help").stdout.split())
    for name, recipe in RECIPES.items():
        assert f"- {name}: {recipe.summary}" in text
    assert "By recipe: cuda_convnet_18pct 0.001;" in text


@pytest.mark.slow
def test_a_recipe_trains_evaluates_predicts_and_resumes(call_command, tmp_path):
    def run(*words, code=0):
        result = call_command(*words)
        assert result.returncode == code, result.stderr
        return result.stdout + result.stderr

    train = ("train", "--dataset=digits", "--train_dir=run")
    recipe = ("--recipe=cuda_convnet_11pct", "--batch_size=16", "--ops=plain")
    log = run(*train, *recipe, "--max_steps=3")
    assert "network cuda_convnet_11pct with 2,112,970 parameters" in log
    saved = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert saved["recipe"] == "cuda_convnet_11pct"
    assert (saved["batch_size"], saved["views"]) == (16, "ten_crops")
    assert saved["optimizer"] == "sgd(momentum=0.9)"
    assert saved["learning_rate_drops"] == [500 / 520, 510 / 520]

    # The statistics that normalize the inputs are in the checkpoint.
    evaluate = ("eval", "--checkpoint_dir=run", "--num_examples=100")
    assert "precision @ 1 = " in run(*evaluate)
    Image.new("RGB", (40, 40), "green").save(tmp_path / "green.png")
    assert "green.png" in run("predict", "--checkpoint_dir=run", "green.png")

    found = run(*train, "--max_steps=3", code=2)
    assert "holds another run (recipe: cuda_convnet_11pct there, tutorial now" in found
    assert "batch_size: 16 there, 128 now" in found
    found = run(*train, *recipe, "--max_steps=4", code=2)
    assert "holds another run (max_steps: 3 there, 4 now)" in found
    assert "nothing to do" in run(*train, *recipe, "--max_steps=3")


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    ["cuda_convnet_18pct", "vgg16_bn", "resnet18", "airbench94", "airbench96"],
)
def test_the_other_recipes_train_and_evaluate(call_command, recipe):
    train = ("train", "--dataset=digits", "--train_dir=run", f"--recipe={recipe}")
    result = call_command(*train, "--max_steps=2", "--batch_size=8")
    assert result.returncode == 0, result.stderr
    result = call_command("eval", "--checkpoint_dir=run", "--num_examples=80")
    assert result.returncode == 0, result.stderr
