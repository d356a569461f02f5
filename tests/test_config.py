import dataclasses
import json
import math

import pytest

from cifar_jax import Config, UserError
from cifar_jax.config import conflicts


def test_defaults_are_the_tutorials():
    config = Config()
    assert (config.max_steps, config.batch_size, config.log_frequency) == (
        1_000_000,
        128,
        10,
    )
    assert (config.learning_rate, config.learning_rate_decay_factor) == (0.1, 0.1)
    assert (config.weight_decay, config.ema_decay) == (0.004, 0.9999)
    assert config.save_interval_secs == 600
    assert config.decay_steps == 136_718


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("batch_size", -1),
        ("max_steps", 0),
        ("max_steps", 2**31),
        ("seed", -1),
        ("seed", 2**32),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("weight_decay", -0.1),
        ("ema_decay", 1.1),
        ("log_frequency", 0),
        ("summary_frequency", 0),
        ("save_interval_secs", -1.0),
        ("validation_size", -1),
        ("dataset", "mnist"),
        ("model", "transformer"),
        ("recipe", "soup"),
        ("views", 3),
        ("schedule", "linear"),
        ("normalization", "whitening"),
        ("momentum", 1.5),
        ("warmup", -0.1),
        ("contrast", 1.1),
        ("image_size", 33),
        ("padding", 33),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(UserError, match=rf"--{name}={value}"):
        Config(**{name: value})


def test_every_field_has_help():
    assert all(field.metadata["help"] for field in dataclasses.fields(Config))


def test_drops_are_of_their_schedule_alone():
    with pytest.raises(UserError, match="--schedule=cosine has no --learning_rate_dr"):
        Config(recipe="cuda_convnet_18pct", schedule="cosine")
    config = Config(
        recipe="cuda_convnet_18pct", schedule="cosine", learning_rate_drops=()
    )
    assert config.learning_rate_drops == ()


@pytest.mark.parametrize("drops", [(0.9, 0.8), (0.0,), (1.0,), (0.5, 1.5)])
def test_drops_rise_within_the_run(drops):
    with pytest.raises(UserError, match="must rise from above 0 to below 1"):
        Config(learning_rate_drops=drops)


def test_images_are_large_enough_for_the_network():
    with pytest.raises(UserError, match="at least 32, which --model=vgg16 needs"):
        Config(model="vgg16")
    assert Config(model="vgg16", image_size=32).inputs.size == 32


def test_nesterov_needs_momentum():
    with pytest.raises(UserError, match="--nesterov needs a --momentum"):
        Config(nesterov=True)


@pytest.mark.parametrize("recipe", ["tutorial", "cuda_convnet_18pct"])
def test_survives_json(recipe):
    config = Config(recipe=recipe, batch_size=7, data_dir="/data")
    assert Config(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_conflicts_are_of_what_decides_the_numbers():
    saved = Config(seed=1)
    asked = Config(seed=2, max_steps=5, train_dir="elsewhere", data_dir="/d")
    assert conflicts(saved, asked) == ["seed: 1 there, 2 now"]
    assert conflicts(saved, dataclasses.replace(saved, log_frequency=3)) == []


def test_another_recipe_is_one_conflict():
    saved, asked = Config(recipe="resnet18"), Config(recipe="vgg16_bn", seed=3)
    assert conflicts(saved, asked) == ["recipe: resnet18 there, vgg16_bn now"]


@pytest.mark.parametrize("changes", [{"schedule": "cosine"}, {"warmup": 0.1}])
def test_a_schedule_over_the_whole_run_fixes_its_length(changes):
    saved = Config(max_steps=10, **changes)
    asked = dataclasses.replace(saved, max_steps=20)
    assert conflicts(saved, asked) == ["max_steps: 10 there, 20 now"]


def test_a_trace_needs_a_place():
    with pytest.raises(UserError, match="--profile needs a --train_dir"):
        Config(profile=True, train_dir=None)
