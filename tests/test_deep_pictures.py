"""Follows pictures of 16 bits from the training to all that reads pictures later."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from cifar_jax import Config, classify, fit, load_data, load_trained, read_run
from cifar_jax.evaluation import exports

RANGE = (51241.0, 52181.0)
# All of the range, from dark to light.
VALUES = np.linspace(*RANGE, 32 * 32).reshape(32, 32)


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Returns a folder with pictures, a run on them, and an export of it."""
    folder = tmp_path_factory.mktemp("deep")
    for i in range(4):
        save(folder / "data" / "up" / f"{i}.png", VALUES.astype(np.uint16))
        save(folder / "data" / "down" / f"{i}.png", VALUES[::-1].astype(np.uint16))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        config = Config(
            dataset="folder",
            data_dir=str(folder / "data"),
            train_dir=str(folder / "run"),
            model="small",
            batch_size=4,
            max_steps=2,
        )
        dataset = load_data("folder", config.data_dir)
        fit(config, dataset, log=lambda line: None)
    run = read_run(folder / "run")
    exports.write(folder / "export", run, load_trained(run), raw_params=False)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_range_is_recorded(folder):
    for file in (folder / "run" / "config.json", folder / "export" / "config.json"):
        record = json.loads(file.read_text())
        assert record.get("data", record)["value_range"] == list(RANGE)


@pytest.mark.parametrize("source", ["--checkpoint_dir=run", "--weights=export"])
def test_predict_scales_a_picture_as_the_training_did(folder, source, call_command):
    # Its own values are of the upper half of the range alone.
    values = np.float32(RANGE[1]) - np.float32(VALUES - RANGE[0]) / 2
    save(folder / "new.tif", values)
    if source == "--weights=export":
        source = "--weights=export/model.safetensors"
    result = call_command("predict", source, "--json", "new.tif", cwd=folder)
    assert result.returncode == 0, result.stderr
    scaled = np.rint((values - RANGE[0]) * (255 / 940)).astype(np.uint8)
    network = load_trained(read_run(folder / "run"))
    expected = classify(network, np.repeat(scaled[None, ..., None], 3, axis=-1))[0]
    (record,) = json.loads(result.stdout)
    for name, probability in record["probabilities"].items():
        index = network.class_names.index(name)
        assert probability == pytest.approx(expected[index], abs=1e-5)


def test_a_network_of_other_pictures_refuses_floats(folder, finished_run, call_command):
    save(folder / "new.tif", VALUES.astype(np.float32))
    flag = f"--checkpoint_dir={finished_run}"
    result = call_command("predict", flag, "new.tif", cwd=folder)
    assert result.returncode == 2
    assert "there were no such training pictures" in result.stderr


def test_other_pictures_are_evaluated_by_the_range_of_the_run(
    folder, tmp_path, call_command, monkeypatch
):
    seen = []
    load = load_data

    def remember(*args, **options):
        seen.append(load(*args, **options))
        return seen[-1]

    monkeypatch.setattr("cifar_jax.data.load", remember)
    for i in range(4):
        half = (VALUES[:, ::-1] - RANGE[0]) / 2 + RANGE[0]
        save(tmp_path / "data" / "up" / f"{i}.png", half.astype(np.uint16))
        save(tmp_path / "data" / "down" / f"{i}.png", half.astype(np.uint16))
    flags = f"--checkpoint_dir={folder / 'run'}", f"--data_dir={tmp_path / 'data'}"
    result = call_command("eval", *flags, "--eval_dir=eval", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (dataset,) = seen
    assert dataset.value_range == RANGE
    assert dataset.train.images.max() == 127
    assert "trained on other images or labels" in result.stdout


def test_a_run_of_before_has_no_range(folder, tmp_path):
    run = read_run(folder / "run")
    record = json.loads((run.path / "config.json").read_text())
    del record["data"]["value_range"], record["sha256"]
    (tmp_path / "config.json").write_text(json.dumps(record))
    assert read_run(tmp_path) == dataclasses.replace(
        run,
        path=tmp_path,
        config=dataclasses.replace(run.config, train_dir=str(tmp_path)),
        value_range=None,
    )
