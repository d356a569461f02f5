import dataclasses
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_jax import Config, UserError, data
from cifar_jax.config.conflicts import describe_mistuning, find_conflicts
from cifar_jax.config.recipes import RECIPES


def test_defaults_match_the_tutorial():
    config = Config()
    assert (config.max_steps, config.batch_size, config.log_frequency) == (
        1_000_000,
        128,
        10,
    )
    assert (config.learning_rate, config.learning_rate_decay_factor) == (0.1, 0.1)
    assert (config.weight_decay, config.average) == (0.004, "ema(0.9999, ramp=True)")
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
        ("average", "ema(1.1)"),
        ("batch_size", 2**63),
        ("max_steps", 10**400),
        ("log_frequency", 0),
        ("log_frequency", 2**63),
        ("summary_frequency", 2**63),
        ("summary_frequency", 0),
        ("save_interval_secs", -1.0),
        ("validation_size", -1),
        ("model", "transformer"),
        ("model", "resnet18(width=0)"),
        ("model", "resnet18(num_classes=3)"),
        ("model", "resnet18(dtype='bfloat16')"),
        ("model", "resnet18, vgg16_bn"),
        ("learning_rate_drops", (math.nan,)),
        ("recipe", "soup"),
        ("views", "3"),
        ("views", "eleven_crops"),
        ("schedule", "drops"),
        ("normalization", "whitening"),
        ("optimizer", "sgd(momentum=1.5)"),
        ("optimizer", "sgd(nesterov=True)"),
        ("optimizer", "sgd, adamw"),
        ("optimizer", "lookahead(3)"),
        ("optimizer", "adam"),
        ("optimizer", "optax('adam', b1=2)"),
        ("optimizer", "sam(sgd, rho=0)"),
        ("schedule", "onecycle(pct_start=2)"),
        ("schedule", "optax('adam')"),
        ("layer_decay", 0.0),
        ("layer_decay", 1.5),
        ("loss", "hinge"),
        ("warmup", -0.1),
        ("distortions", "contrast(1.1)"),
        ("distortions", "mixup, crop"),
        ("param_groups", "group"),
        ("image_size", 0),
        ("keep", 0),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(UserError, match=re.escape(f"--{name}={value}")):
        Config(**{name: value})


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("batch_size", 8.5, "an integer"),
        ("batch_size", "8", "an integer"),
        ("batch_size", True, "an integer"),
        ("batch_size", None, "an integer"),
        ("use_fp16", "no", "True or False"),
        ("use_fp16", 1, "True or False"),
        ("learning_rate", "0.1", "a number"),
        ("learning_rate", False, "a number"),
        ("train_dir", 3, "text or None"),
        ("train_dir", b"run", "text or None"),
        ("num_devices", 1.0, "an integer or None"),
        ("views", 2, "text"),
        ("optimizer", None, "text"),
        ("recipe", 3, "text"),
        ("keep", "5", "an integer or all"),
        ("learning_rate_drops", "0.5", "a list of numbers"),
        ("learning_rate_drops", ("0.5",), "a list of numbers"),
        ("learning_rate_drops", 0.5, "a list of numbers"),
    ],
)
def test_values_of_the_wrong_type_are_refused_by_name(name, value, wanted):
    with pytest.raises(UserError) as caught:
        Config(**{name: value})
    assert str(caught.value) == f"--{name}={value!r} must be {wanted}"


@pytest.mark.wrong_types
def test_numpy_numbers_and_paths_are_converted(tmp_path):
    config = Config(
        batch_size=np.int64(7),
        learning_rate=np.float32(0.5),
        warmup=0,
        use_fp16=np.bool_(False),
        train_dir=tmp_path / "run",
        data_dir="",
        schedule="piecewise",
        learning_rate_drops=[np.float64(0.25), 0.5],
    )
    expected = {
        "batch_size": 7,
        "learning_rate": 0.5,
        "warmup": 0.0,
        "use_fp16": False,
        "train_dir": str(tmp_path / "run"),
        "data_dir": None,
        "learning_rate_drops": (0.25, 0.5),
    }
    for name, value in expected.items():
        assert getattr(config, name) == value
        assert type(getattr(config, name)) is type(value)
    assert Config(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


@pytest.mark.wrong_types
@given(st.data())
def test_any_values_give_a_config_or_a_short_user_error(data):
    anything = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.binary(max_size=3),
        st.lists(st.floats(), max_size=3),
    )
    names = st.sampled_from([field.name for field in dataclasses.fields(Config)])
    given_values = data.draw(st.dictionaries(names, anything, max_size=3))
    try:
        config = Config(**given_values)
    except UserError as error:
        assert len(str(error)) < 500  # noqa: PT017
    else:
        assert Config(**json.loads(json.dumps(dataclasses.asdict(config)))) == config
        assert 0 < config.decay_steps < 2**31


def test_only_the_piecewise_schedule_accepts_drops():
    with pytest.raises(UserError, match="--schedule=cosine has no --learning_rate_dr"):
        Config(recipe="cuda_convnet_18pct", schedule="cosine")
    config = Config(
        recipe="cuda_convnet_18pct", schedule="cosine", learning_rate_drops=()
    )
    assert config.learning_rate_drops == ()


@pytest.mark.parametrize("drops", [(0.9, 0.8), (0.5, 0.5), (0.0,), (1.0,), (0.5, 1.5)])
def test_drops_must_rise_within_the_run(drops):
    with pytest.raises(UserError, match="must increase from above 0 to below 1"):
        Config(learning_rate_drops=drops)


def test_nothing_is_listed_twice():
    with pytest.raises(UserError, match="--writers=jsonl, jsonl lists jsonl 2 times"):
        Config(writers="jsonl, jsonl")
    with pytest.raises(UserError, match=r"lists top_k\(1\) 2 times"):
        Config(eval_metrics="top_k(1), nll, top_k( 1 )")
    assert Config(eval_metrics="top_k(1), top_k(2)")
    assert Config(distortions="flip, flip")


def test_images_must_be_large_enough_for_the_network():
    with pytest.raises(UserError, match="at least 32, which --model=vgg16 needs"):
        Config(model="vgg16")
    assert Config(model="vgg16", image_size=32).preprocessing.size == 32


@pytest.mark.wrong_types
@pytest.mark.parametrize("recipe", ["tutorial", "cuda_convnet_18pct"])
def test_survives_json(recipe):
    config = Config(recipe=recipe, batch_size=7, data_dir="/data")
    assert Config(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_only_settings_that_affect_the_results_conflict():
    saved = Config(seed=1)
    asked = Config(seed=2, max_steps=5, train_dir="elsewhere", data_dir="/d")
    assert find_conflicts(saved, asked) == ["seed: 1 there, 2 now"]
    assert find_conflicts(saved, dataclasses.replace(saved, log_frequency=3)) == []


def test_another_recipe_is_one_conflict_besides_explicit_changes():
    saved, asked = Config(recipe="resnet18"), Config(recipe="vgg16_bn", seed=3)
    recipe = "recipe: resnet18 there, vgg16_bn now"
    assert find_conflicts(saved, asked) == [recipe, "seed: 0 there, 3 now"]
    asked = Config(recipe="vgg16_bn", warmup=0.5)
    assert find_conflicts(saved, asked) == [recipe, "warmup: 0.0 there, 0.5 now"]
    asked = Config(recipe="vgg16_bn")
    assert find_conflicts(saved, asked) == [recipe]


def test_a_recipe_cannot_be_replaced_by_its_name_alone():
    config = dataclasses.replace(Config(recipe="resnet18"), seed=3)
    with pytest.raises(UserError, match=r"write Config\(recipe='vgg16_bn', ...\)"):
        dataclasses.replace(config, recipe="vgg16_bn")
    assert dataclasses.replace(config, recipe="resnet18") == config


def test_spacing_and_quotes_do_not_conflict():
    saved = Config(optimizer="sgd(momentum=0.9)", param_groups="group('.*/bias')")
    asked = Config(optimizer=" sgd( momentum = 0.9)", param_groups='group(".*/bias")')
    assert find_conflicts(saved, asked) == []


def test_recipe_settings_have_the_form_that_configs_store():
    for name, recipe in RECIPES.items():
        config = Config(recipe=name)
        for setting, value in recipe.settings.items():
            assert getattr(config, setting) == value


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "cosine"},
        {"schedule": "linear"},
        {"warmup": 0.1},
        {"schedule": "triangle"},
        {"schedule": "wsd"},
        {"param_groups": "group('.*/bias', schedule='cosine')"},
        {"param_groups": "group('.*/bias', until=0.5)"},
        {"optimizer": "lookahead(sgd, cubic=True)"},
        {"optimizer": "lookahead(sgd, 5, 0.5, True)"},
        {"optimizer": "clip(lookahead(sgd, cubic=True))"},
        {"average": "swa"},
    ],
)
def test_a_schedule_over_the_whole_run_fixes_its_length(changes):
    saved = Config(max_steps=10, **changes)
    asked = dataclasses.replace(saved, max_steps=20)
    assert find_conflicts(saved, asked) == ["max_steps: 10 there, 20 now"]


def test_profiling_needs_a_train_dir():
    with pytest.raises(UserError, match="--profile needs a --train_dir"):
        Config(profile=True, train_dir=None)


def test_options_of_the_data_set_are_those_that_were_given():
    assert Config().data_options == {}
    assert Config(labels="coarse").data_options == {"labels": "coarse"}


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, None),
        ({"optimizer": "clip(sgd(momentum=0.9), global_norm=1.0)"}, None),
        ({"optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.05}, None),
        (
            {"optimizer": "adamw", "learning_rate": 1e-3},
            "note: --optimizer=adamw is used with --weight_decay=0.004, which "
            "--recipe=tutorial chose for sgd",
        ),
        (
            {"recipe": "cuda_convnet_18pct", "optimizer": "clip(adamw)"},
            "note: --optimizer=clip(adamw) is used with --learning_rate=0.001, "
            "--weight_decay=0.004, --param_groups=group('.*/bias', learning_rate=2.0), "
            "which --recipe=cuda_convnet_18pct chose for sgd(momentum=0.9)",
        ),
    ],
)
def test_another_optimizer_with_the_rates_of_a_recipe_is_noted(changes, note):
    assert describe_mistuning(Config(**changes)) == note


@pytest.mark.parametrize(("size", "expected"), [(24, 32), (32, 32), (224, 256)])
def test_pictures_are_kept_at_a_size_that_suits_the_network(size, expected):
    config = Config(dataset="folder", image_size=size)
    assert config.data_options == {"picture_size": expected}
    assert Config(dataset="folder", picture_size=40).data_options == {
        "picture_size": 40
    }


def test_options_of_data_sets_are_those_of_their_functions():
    assert data.list_options("folder") == {"picture_size", "split_seed", "skip_damaged"}
    assert data.list_options("cifar100") == {"labels"}
    assert data.list_options("stripes") == set()
    fields = {field.name for field in dataclasses.fields(Config)}
    assert fields >= data.OPTIONS


@pytest.mark.parametrize(
    ("count", "batch_size", "max_steps"),
    # 2.5 * 100 / 32 = 7.8; 2.5 * 32 / 32 = 2.5; 13 images in batches of 8: 4.06.
    [(100, 32, 8), (32, 32, 3), (31, 16, 5), (13, 8, 5), (1, 1, 3)],
)
def test_epochs_become_steps_of_batches_that_there_are(count, batch_size, max_steps):
    config = Config(num_epochs=2.5, batch_size=32).for_images(count)
    assert (config.batch_size, config.max_steps) == (batch_size, max_steps)
    assert config.for_images(count) == config


def test_epochs_are_an_end_beside_max_steps():
    assert (
        Config(num_epochs=10, batch_size=10, max_steps=7).for_images(50).max_steps == 7
    )
    assert Config(batch_size=60).for_images(50) == Config(batch_size=60)
    accumulated = Config(
        num_epochs=1, batch_size=10, optimizer="accumulate(sgd, every=4)"
    )
    # Two updates of 40 images each.
    assert accumulated.for_images(50).max_steps == 8


@pytest.mark.parametrize("value", [0, -1, float("inf")])
def test_epochs_are_more_than_none(value):
    with pytest.raises(UserError, match="--num_epochs="):
        Config(num_epochs=value)
