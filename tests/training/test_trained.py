"""Tests that the network of an export is that of its run, and what is refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from helpers import make_dataset
from safetensors.numpy import load_file, save_file

from cifar_jax import (
    Config,
    UserError,
    classify,
    fit,
    load_exported,
    load_trained,
    predict_logits,
    read_run,
)
from cifar_jax.data.normalization import Statistics
from cifar_jax.evaluation import exports
from cifar_jax.runs import checkpoints

IMAGES = make_dataset().test.images


def export(run, folder, float16=False):
    run = read_run(run)
    exports.write(folder, run, load_trained(run), raw_params=False, float16=float16)
    return folder / "model.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"model": "batch_norm", "normalization": "channel", "views": "ten_crops"},
        {"model": "small", "use_fp16": True},
    ],
)
def test_an_export_is_the_network_of_its_run(settings, dataset, tmp_path):
    config = Config(max_steps=4, batch_size=8, train_dir=str(tmp_path), **settings)
    fit(config, dataset, log=lambda line: None)
    expected = load_trained(read_run(tmp_path))
    found = load_exported(export(tmp_path, tmp_path / "exported"))
    np.testing.assert_array_equal(classify(found, IMAGES), classify(expected, IMAGES))
    for name in ("step", "class_names", "image_shape"):
        assert getattr(found, name) == getattr(expected, name)
    same = {"distortions": (), "mixtures": ()}
    assert found.preprocessing == dataclasses.replace(expected.preprocessing, **same)


def test_the_range_of_deep_pictures_is_that_of_the_run(finished_run, tmp_path):
    run = dataclasses.replace(read_run(finished_run), value_range=(51241.0, 52181.5))
    network = load_trained(run)
    assert network.value_range == (51241, 52181.5)
    exports.write(tmp_path, run, network, raw_params=False)
    found = load_exported(tmp_path / "model.safetensors")
    assert found.value_range == (51241, 52181.5)


def test_float16_halves_the_weights_and_hardly_changes_the_logits(
    finished_run, tmp_path
):
    whole = export(finished_run, tmp_path / "whole")
    half = export(finished_run, tmp_path / "half", float16=True)
    for name, value in load_file(half).items():
        np.testing.assert_array_equal(value, load_file(whole)[name].astype(np.float16))
    sizes = [half.stat().st_size / whole.stat().st_size]
    program = tmp_path / "half" / "model.stablehlo"
    sizes.append(
        program.stat().st_size / (tmp_path / "whole" / program.name).stat().st_size
    )
    assert max(sizes) < 0.7
    logits = [predict_logits(load_exported(path), IMAGES) for path in (whole, half)]
    assert 0 < np.abs(logits[0] - logits[1]).max() < 1e-2


def test_numbers_that_float16_does_not_have_are_refused():
    variables = {"params": {"head": {"kernel": np.full((2, 2), 7e4, np.float32)}}}
    with pytest.raises(UserError, match="params/head/kernel is too large for float16"):
        exports.round_to_float16(variables)


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalization": None}, "does not specify its normalization"),
        ({"dtype": None}, "does not specify its dtype"),
        ({"step": None}, "does not specify its step"),
        ({"step": -1}, "step=-1 must be at least 0"),
        ({"model": "unknown"}, "unknown"),
        ({"model": "batch_norm"}, "it has head/kernel of shape"),
        ({"image_size": 1 << 70}, "--image_size"),
        ({"image_size": "24"}, "--image_size"),
        ({"image_size": 32, "image_shape": [24, 24, 3]}, None),
        ({"image_shape": [32, 32]}, "not a complete network"),
        ({"image_shape": 32}, "not a complete network"),
        ({"image_shape": [32, 32, -3]}, "not a complete network"),
        ({"image_shape": [32, 32, 1]}, "not a complete network"),
        ({"image_shape": ["a", 32, 3]}, "not a complete network"),
        ({"image_shape": [32.0, 32, 3]}, "not a complete network"),
        ({"image_shape": [1_000_000, 1_000_000, 3]}, "must be at most 4096"),
        ({"image_shape": [32, 4097, 3]}, "must be at most 4096"),
        ({"image_shape": [32, 0, 3]}, "must be at least 1"),
        ({"normalization": "channel"}, "needs statistics"),
        ({"normalization": ["image"]}, "normalization"),
        ({"views": "all"}, "--views=all"),
        ({"class_names": ["red", "green"]}, "has head/bias of shape"),
        ({"class_names": []}, "num_classes=0"),
        ({"model": "resnet18(depths=(2, 2, 2, 1000000000))"}, "must be at most 200"),
        ({"model": "vgg16(depths=(2, 2, 3, 3, 1000000000))"}, "must be at most 200"),
        ({"model": "airbench94(depth=1000000000)"}, "must be at most 200"),
        ({"views": "shifted_mirrors(shift=1000000000)"}, "must be at most 1024"),
        ({"value_range": [2, 1]}, "value_range is 2 to 1, which is not a range"),
        ({"value_range": [1, float("nan")]}, "which is not a range"),
        ({"value_range": "all"}, "not a complete network"),
    ],
)
def test_records_that_fit_nothing_are_refused(finished_run, tmp_path, changes, message):
    path = export(finished_run, tmp_path)
    record = json.loads((tmp_path / "config.json").read_text()) | changes
    record = {name: value for name, value in record.items() if value is not None}
    save_file(load_file(path), path, {"config": json.dumps(record)})
    if message is None:
        assert load_exported(path).image_shape == (24, 24, 3)
        return
    with pytest.raises(UserError, match=message) as error:
        load_exported(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_statistics_that_do_not_fit_are_refused(dataset, tmp_path):
    config = Config(
        max_steps=1,
        batch_size=8,
        model="small",
        normalization="channel",
        train_dir=str(tmp_path),
    )
    fit(config, dataset, log=lambda line: None)
    path = export(tmp_path, tmp_path / "exported")
    record = (tmp_path / "exported" / "config.json").read_text()
    arrays = load_file(path)
    arrays["statistics/stddev"] = np.ones(7, np.float32)
    save_file(arrays, path, {"config": record})
    with pytest.raises(UserError, match="not a complete network"):
        load_exported(path)
    del arrays["statistics/stddev"]
    save_file(arrays, path, {"config": record})
    with pytest.raises(UserError, match="not a complete network"):
        load_exported(path)


def test_a_checkpoint_with_numbers_that_are_not_finite(finished_run, monkeypatch):
    restore = checkpoints.restore

    def with_nan(*arguments):
        state = restore(*arguments)
        params = jax.tree.map(lambda leaf: leaf * np.nan, state.params)
        return dataclasses.replace(state, params=params)

    monkeypatch.setattr(checkpoints, "restore", with_nan)
    run = read_run(finished_run)
    message = r"checkpoints/12 has non-finite values in params/head/bias \(3 of 3\)"
    with pytest.raises(UserError, match=message):
        load_trained(run, raw_params=True)
    assert load_trained(run).step == 12


def test_statistics_that_are_not_finite(finished_run, monkeypatch):
    restore = checkpoints.restore

    def with_nan(*arguments):
        mean = np.full((32, 32, 3), np.nan, np.float32)
        statistics = Statistics(mean, np.ones(3, np.float32))
        return dataclasses.replace(restore(*arguments), statistics=statistics)

    monkeypatch.setattr(checkpoints, "restore", with_nan)
    message = r"has non-finite values in statistics/mean \(3072 of 3072\)"
    with pytest.raises(UserError, match=message):
        load_trained(read_run(finished_run))


@pytest.mark.parametrize("place", [100, 1000, -1])
def test_a_damaged_export_is_refused(finished_run, tmp_path, place):
    path = export(finished_run, tmp_path)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        load_exported(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("path", "message"),
    [
        (None, "path=None must be the name of a file"),
        (b"exported", "path=b'exported' must be the name of a file"),
        (3, "path=3 must be the name of a file"),
        ("a\0b", "cannot be read: "),
        ("x" * 300, "cannot be read: File name too long"),
        (".", r". is a directory, not a file of weights"),
        ("/dev/zero", "/dev/zero is not a regular file"),
    ],
)
def test_what_is_no_path_is_refused(path, message):
    with pytest.raises(UserError, match=message) as error:
        load_exported(path)
    assert "\n" not in str(error.value)


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"raw_params": "x"}, "raw_params='x' must be True or False"),
        ({"raw_params": None}, "raw_params=None must be True or False"),
        ({"best": 1}, "best=1 must be True or False"),
        ({"step": "12"}, "step='12' must be an integer or None"),
        ({"step": 12.0}, "step=12.0 must be an integer or None"),
        ({"step": True}, "step=True must be an integer or None"),
        ({"model": "small"}, "model must be a cifar_jax.Network, not a str"),
    ],
)
def test_arguments_of_other_types_are_refused(finished_run, arguments, message):
    run = read_run(finished_run)
    with pytest.raises(UserError, match=message):
        load_trained(run, **arguments)
    assert load_trained(run, np.int64(12), raw_params=np.bool_(True)).step == 12
