"""Tests the settings of recipes, and training and evaluation with them."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cifar_jax import Config, build_program
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


@pytest.mark.parametrize(
    ("recipe", "epochs", "rates"),
    [
        # In thousands of steps.
        ("resnet20", 64, {31.9: 0.1, 32.1: 0.01, 47.9: 0.01, 48.1: 0.001}),
        ("resnet56", 64, {31.9: 0.1, 32.1: 0.01, 47.9: 0.01, 48.1: 0.001}),
        # In epochs.
        ("preact_resnet18", 200, {0: 0.1, 100: 0.05, 200: 0}),
        ("resnet18", 200, {0: 0.1, 100: 0.05, 200: 0}),
        ("vgg16_bn", 200, {0: 0.1, 100: 0.05, 200: 0}),
        ("resnet18_cutout", 200, {59: 0.1, 61: 0.02, 121: 0.004, 161: 0.0008}),
        ("wrn28_10", 200, {59: 0.1, 61: 0.02, 121: 0.004, 161: 0.0008}),
        ("densenet100", 300, {149: 0.1, 151: 0.01, 224: 0.01, 226: 0.001}),
    ],
)
def test_rates_and_decays_are_as_published(recipe, epochs, rates):
    config = Config(recipe=recipe)
    program = build_program(config, 10)
    images = 128_000 if recipe in ("resnet20", "resnet56") else 50_000
    per_epoch = images / config.batch_size
    assert config.max_steps == epochs * per_epoch
    for epoch, rate in rates.items():
        found = program.learning_rate(round(epoch * per_epoch))
        assert float(found) == pytest.approx(rate, rel=1e-4, abs=1e-6)
    params = {"norm": {"scale": jnp.ones(2)}, "head": {"bias": jnp.ones(3)}}
    (penalty,) = program.weight_decay.penalties(params).values()
    assert float(penalty) == pytest.approx(config.weight_decay * 5 / 2)


def test_help_describes_each_recipe_and_the_data_sets(run_command):
    text = " ".join(run_command("train", "--helpfull").stdout.split())
    assert "cifar100(labels='fine'), digits, folder(picture_size=32, " in text
    for name, recipe in RECIPES.items():
        assert f"- {name}: {recipe.summary}" in text
    assert re.search(r"By recipe: [^:]*\bcuda_convnet_18pct 0\.001;", text)


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
    [
        *("cuda_convnet_18pct", "vgg16_bn", "resnet18", "airbench94", "airbench96"),
        *("finetune", "resnet20", "preact_resnet18", "vit_s", "conv_mixer"),
    ],
)
def test_the_other_recipes_train_and_evaluate(call_command, recipe):
    train = ("train", "--dataset=digits", "--train_dir=run", f"--recipe={recipe}")
    if recipe in ("vit_s", "conv_mixer"):
        train += (f"--model={recipe}(depth=1)",)
    result = call_command(*train, "--max_steps=2", "--batch_size=8")
    assert result.returncode == 0, result.stderr
    result = call_command("eval", "--checkpoint_dir=run", "--num_examples=80")
    assert result.returncode == 0, result.stderr


def test_fine_tuning_takes_as_large_batches_as_there_are():
    few = Config(recipe="finetune").for_images(13)
    assert (few.batch_size, few.max_steps) == (8, 49)
    many = Config(recipe="finetune").for_images(600)
    assert (many.batch_size, many.max_steps) == (32, 563)
    assert Config(recipe="finetune", max_steps=40).for_images(600).max_steps == 40


@pytest.mark.slow
def test_fine_tuning_tells_a_few_pictures_apart(call_command, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, color, count in (("red", 0, 5), ("blue", 2, 17)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.random.default_rng(i).integers(0, 99, (40, 50, 3), np.uint8)
            pixels[..., color] += 120
            path = tmp_path / "pictures" / name / f"{i}.png"
            Image.fromarray(pixels).save(path)
    train = ("train", "--recipe=finetune", "--dataset=folder", "--data_dir=pictures")
    result = call_command(*train, "--train_dir=run", "--num_epochs=6")
    assert result.returncode == 0, result.stderr
    assert "training images per class: blue 14, red 4\n" in result.stdout
    assert 'red; --loss="balanced(cross_entropy)" gives all' in result.stdout
    assert "18 images in batches of 16, 7 steps\n" in result.stdout
    again = call_command(*train, "--train_dir=run", "--num_epochs=6")
    assert "already at step 7" in again.stdout
    evaluated = call_command("eval", "--checkpoint_dir=run", "--report=report")
    assert "precision @ 1 = 1.000\n" in evaluated.stdout
    assert "with 4 images, the 95% interval is 0.510 to 1.000" in evaluated.stdout
    record = json.loads((tmp_path / "report" / "report.json").read_text())
    files = {answer["file"] for answer in record["right_answers"]}
    assert {file.split("/")[0] for file in files} == {"red", "blue"}
    assert all((tmp_path / "pictures" / file).is_file() for file in files)
