"""Tests trainings that start from the weights of a run, an export or Keras."""

import dataclasses
import functools
import json
import re

import h5py
import jax
import numpy as np
import pytest
from helpers import assert_equal_states, make_dataset, silent
from keras_files import Layer, write
from safetensors.numpy import load_file, save_file

from cifar_jax import (
    Config,
    Dataset,
    UserError,
    build_program,
    fit,
    load_exported,
    load_trained,
    models,
    read_run,
)
from cifar_jax.evaluation import exports
from cifar_jax.models import safetensors_files
from cifar_jax.training import initial

# All layers except the head.
FROZEN = "group('(?!head/).*', frozen=True)"


def config(**changes):
    values = {
        "model": "batch_norm",
        "max_steps": 3,
        "batch_size": 8,
        "log_frequency": 1,
        "train_dir": None,
    }
    return Config(**values | changes)


def four_classes() -> Dataset:
    data = make_dataset()
    return Dataset.create(
        "four", data.train, data.test, class_names=("a", "b", "c", "none")
    )


@pytest.fixture(scope="module")
def source(dataset, make_once):
    """Returns a run of three classes."""

    def make(folder):
        fit(config(train_dir=str(folder / "source")), dataset, silent)

    return read_run(make_once("of_three_classes", make) / "source")


@pytest.fixture
def keras_file(tmp_path):
    """Returns a file of Keras with weights of the network for five classes."""
    random = np.random.RandomState(0)
    shapes = {
        ("conv", "conv2d"): {"kernel": (3, 3, 3, 8)},
        ("norm", "batch_normalization"): dict.fromkeys(
            ("gamma", "beta", "moving_mean", "moving_variance"), (8,)
        ),
        ("head", "dense"): {"kernel": (8, 5), "bias": (5,)},
    }
    layers = [
        Layer(
            *layer, {name: random.uniform(1, 2, shape) for name, shape in own.items()}
        )
        for layer, own in shapes.items()
    ]
    return write(tmp_path / "five.weights.h5", layers)


def test_the_same_classes_keep_everything(source, dataset):
    # With the lowest rate there is, the weights stay what they were.
    settings = config(
        init_from=str(source.path),
        learning_rate=1e-30,
        param_groups=FROZEN,
    )
    result = fit(settings, dataset, silent)
    expected = load_trained(source).variables
    assert_equal_states(result.state.params, expected["params"])
    assert_equal_states(result.state.batch_stats, expected["batch_stats"])
    averages = result.trained.variables["params"]
    np.testing.assert_allclose(
        averages["head"]["kernel"], expected["params"]["head"]["kernel"], rtol=1e-6
    )
    assert int(result.state.step) == 3


def test_other_classes_get_a_new_head(source):
    settings = config(init_from=str(source.path), param_groups=FROZEN)
    lines = []
    result = fit(settings, four_classes(), lines.append)
    assert any(
        line.endswith(f"from the weights of {source.path}; new layers: head")
        for line in lines
    )
    expected = load_trained(source).variables
    for layer in ("conv", "norm"):
        assert_equal_states(result.state.params[layer], expected["params"][layer])
    # A frozen BatchNorm keeps its running averages too.
    assert_equal_states(result.state.batch_stats, expected["batch_stats"])
    assert result.state.params["head"]["kernel"].shape == (8, 4)


def test_as_many_other_classes_get_a_new_head_too(source):
    data = make_dataset()
    other = Dataset.create("other", data.train, data.test, class_names=("x", "y", "z"))
    settings = config(
        init_from=str(source.path), learning_rate=1e-30, param_groups=FROZEN
    )
    lines = []
    head = fit(settings, other, lines.append).state.params["head"]
    assert any(line.endswith("; new layers: head") for line in lines)
    found = load_trained(source).variables["params"]["head"]
    assert not np.allclose(head["kernel"], found["kernel"])


def test_layers_that_are_not_frozen_are_trained(source, dataset):
    result = fit(config(init_from=str(source.path)), dataset, silent)
    expected = load_trained(source).variables
    for found, before in (
        (result.state.params["conv"]["kernel"], expected["params"]["conv"]["kernel"]),
        (
            result.state.batch_stats["norm"]["mean"],
            expected["batch_stats"]["norm"]["mean"],
        ),
    ):
        assert not np.array_equal(found, before)


def test_from_a_file_of_keras(keras_file, dataset):
    settings = config(init_from=str(keras_file), param_groups=FROZEN)
    state = fit(settings, dataset, silent).state
    random = np.random.RandomState(0)
    kernel = random.uniform(1, 2, (3, 3, 3, 8)).astype(np.float32)
    np.testing.assert_array_equal(state.params["conv"]["kernel"], kernel)
    scale = random.uniform(1, 2, 8).astype(np.float32)
    np.testing.assert_array_equal(state.params["norm"]["scale"], scale)
    assert state.params["head"]["kernel"].shape == (8, 3)


@pytest.mark.slow
def test_a_resumed_run_does_not_read_them_again(keras_file, dataset, tmp_path):
    settings = config(init_from=str(keras_file), max_steps=6)
    whole = fit(settings, dataset, silent)
    own = {"train_dir": str(tmp_path / "run")}
    fit(dataclasses.replace(settings, max_steps=3, **own), dataset, silent)
    keras_file.unlink()
    resumed = fit(dataclasses.replace(settings, **own), dataset, silent)
    assert_equal_states(resumed.state.params, whole.state.params)
    with pytest.raises(UserError, match=r"init_from: .*five\.weights\.h5 there, None"):
        fit(config(max_steps=6, **own), dataset, silent)


def test_an_export_is_as_good_as_its_run(source, dataset, tmp_path):
    exports.write(tmp_path, source, load_trained(source), raw_params=False)
    network = models.create("batch_norm", 3)
    from_run, from_export = (
        initial.load(path, config(), network, dataset.class_names)
        for path in (source.path, tmp_path / "model.safetensors")
    )
    assert from_run.new == from_export.new == ()
    assert_equal_states(from_run.variables, from_export.variables)
    state = fit(
        config(init_from=str(tmp_path / "model.safetensors"), param_groups=FROZEN),
        dataset,
        silent,
    ).state
    assert_equal_states(state.batch_stats, from_run.variables["batch_stats"])


def test_the_folder_of_an_export(source, dataset, tmp_path):
    exports.write(tmp_path / "out", source, load_trained(source), raw_params=False)
    network = models.create("batch_norm", 3)
    from_folder, from_file = (
        initial.load(path, config(), network, dataset.class_names)
        for path in (tmp_path / "out", tmp_path / "out" / "model.safetensors")
    )
    assert_equal_states(from_folder.variables, from_file.variables)


NETWORK = models.create("batch_norm", 3)
RECORD = {"format": 1, "model": "batch_norm", "class_names": ["red", "green", "blue"]}


@pytest.fixture
def export(tmp_path):
    """Returns an export of an untrained network."""
    variables = NETWORK.init(jax.random.key(0), np.zeros((1, 24, 24, 3), np.float32))
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_files.to_bytes(RECORD, variables))
    return path


def test_an_export_of_other_classes_has_no_head(export):
    start = initial.load(export, config(), NETWORK, ("x", "y", "z"))
    assert start.new == ("head",)
    assert start.variables["params"].keys() == {"conv", "norm"}


def test_an_export_of_another_network(export, dataset):
    with pytest.raises(UserError, match="is for --model=batch_norm and cannot init"):
        fit(config(init_from=str(export), model="small"), dataset, silent)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params/conv/kernel": (5, 5, 3, 8)}, r"conv/kernel of shape \(5, 5, 3, 8\)"),
        ({"params/conv/kernel": None}, r"has no conv/kernel of shape \(3, 3, 3, 8\)"),
        ({"params/conv/more": (2,)}, "has conv/more of shape"),
        (
            {"batch_stats/norm/mean": None, "params/norm/mean": (8,)},
            "has norm/mean in params, but in SmallBatchNorm it is in batch_stats",
        ),
    ],
)
def test_an_export_that_was_changed(export, dataset, change, message):
    arrays = load_file(export)
    for name, shape in change.items():
        arrays.pop(name, None)
        if shape is not None:
            arrays[name] = np.zeros(shape, np.float32)
    save_file(arrays, export, {"config": json.dumps(RECORD)})
    with pytest.raises(UserError, match=message):
        initial.load(export, config(), NETWORK, dataset.class_names)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": "small"},
            "is for --model=batch_norm and cannot initialize --model=small",
        ),
        ({"init_from": "missing.h5"}, "--init_from=missing.h5 does not exist; pass"),
        ({"init_from": "."}, "no run in ."),
    ],
)
def test_weights_that_cannot_be_used(
    source, dataset, changes, message, monkeypatch, tmp_path
):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(UserError, match=message):
        fit(config(**{"init_from": str(source.path)} | changes), dataset, silent)


def test_a_refused_start_leaves_nothing(dataset, tmp_path):
    settings = config(init_from="missing.h5", train_dir=str(tmp_path / "new"))
    with pytest.raises(UserError, match="does not exist"):
        fit(settings, dataset, silent)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("number", [np.nan, -np.inf])
def test_numbers_that_are_not_finite(export, keras_file, dataset, number):
    arrays = load_file(export)
    arrays["batch_stats/norm/var"][:2] = number
    save_file(arrays, export, {"config": json.dumps(RECORD)})
    with h5py.File(keras_file, "a") as file:
        file["layers/batch_normalization/vars/3"][:2] = number
    for path in (export, keras_file):
        with pytest.raises(UserError) as error:
            fit(config(init_from=str(path)), dataset, silent)
        start = f"{path}: it has non-finite values in batch_stats/norm/var (2 of 8)"
        assert str(error.value).startswith(start)


def test_another_network_in_the_file_is_an_error(dataset, tmp_path):
    kernel = np.zeros((5, 5, 3, 8), np.float32)
    path = write(tmp_path / "odd.h5", [Layer("conv", "conv2d", {"kernel": kernel})])
    with pytest.raises(UserError, match=r"conv/kernel of shape \(5, 5, 3, 8\), but in"):
        fit(config(init_from=str(path)), dataset, silent)


PRETRAINED = config(
    init_from="pretrained",
    model="airbench94",
    image_size=32,
    normalization="channel",
    max_steps=1,
    learning_rate=1e-30,
    average="none",
    weight_decay=0.0,
)


@pytest.mark.slow
def test_the_network_of_the_package_has_a_name(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = []
    result = fit(PRETRAINED, dataset, lines.append)
    [line] = [line for line in lines if line.startswith("starting from")]
    assert line == (
        "starting from the weights of the bundled network, airbench94; new layers: "
        "predictions"
    )
    assert not any(line.startswith("note: ") for line in lines)
    known = load_exported().variables["params"]
    assert result.state.params.keys() == known.keys()
    for layer, params in known.items():
        if layer != "predictions":
            # The one step at a rate of 1e-30 moves what is 0.
            jax.tree.map(
                functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-25),
                result.state.params[layer],
                params,
            )
    head = result.state.params["predictions"]["kernel"]
    assert head.shape[-1] == 3


def test_weights_for_other_inputs_say_so(source, dataset):
    lines = []
    settings = config(init_from=str(source.path), image_size=32, normalization="tf")
    initial.load_weights(settings, build_program(settings, 3), dataset, lines.append)
    assert [line for line in lines if line.startswith("note: ")] == [
        "note: the weights were trained with --image_size=24, but this run has "
        "--image_size=32",
        "note: the weights were trained with --normalization=image, but this run has "
        "--normalization=tf",
    ]


def test_the_network_of_the_package_says_what_it_needs(dataset):
    message = (
        "--init_from=pretrained is for --model=airbench94 and cannot initialize "
        "--model=batch_norm; pass --model=airbench94 --image_size=32 "
        "--normalization=channel, or --recipe=finetune"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        fit(config(init_from="pretrained"), dataset, silent)


def test_weights_in_python_are_those_of_init_from(finished_run, dataset):
    settings = {"model": "small", "max_steps": 3, "batch_size": 8, "train_dir": None}
    weights = load_trained(read_run(finished_run)).variables
    config = Config(**settings)
    given = fit(config, dataset, silent, initial=weights).state
    named = Config(init_from=str(finished_run), **settings)
    assert_equal_states(given, fit(named, dataset, silent).state)
    with pytest.raises(UserError, match="initial= replaces --init_from"):
        fit(named, dataset, silent, initial=weights)


def test_a_run_resumes_without_its_initial_weights(finished_run, dataset, tmp_path):
    settings = {"model": "small", "batch_size": 8, "train_dir": str(tmp_path)}
    weights = load_trained(read_run(finished_run)).variables
    fit(Config(max_steps=2, **settings), dataset, silent, initial=weights)
    longer = Config(max_steps=4, **settings)
    resumed = fit(longer, dataset, silent).state
    whole = dataclasses.replace(longer, train_dir=None)
    assert_equal_states(resumed, fit(whole, dataset, silent, initial=weights).state)


def test_given_weights_of_another_network_are_refused(finished_run, dataset):
    weights = load_trained(read_run(finished_run)).variables
    config = Config(model="lenet", image_size=32, batch_size=8, train_dir=None)
    with pytest.raises(UserError, match="initial"):
        fit(config, dataset, silent, initial=weights)
