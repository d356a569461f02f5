import dataclasses
import json

import pytest
from helpers import make_dataset

from cifar_jax import Config, UserError, run_dir


@pytest.fixture
def config(tmp_path):
    return Config(train_dir=str(tmp_path / "run"), dataset="cifar10")


def claim(config, dataset):
    with run_dir.claim(config.train_dir, config, dataset) as run:
        return run


def test_what_is_claimed_can_be_read(config, dataset):
    claim(config, dataset)
    run = run_dir.read(config.train_dir)
    assert run.config == config
    assert run.class_names == dataset.class_names
    assert run.data_fingerprint == dataset.fingerprint
    saved = json.loads((run.path / "config.json").read_text())
    assert saved["versions"]["jax"]


def test_a_resumed_run_may_have_other_max_steps(config, dataset):
    claim(config, dataset)
    longer = dataclasses.replace(config, max_steps=5)
    claim(longer, dataset)
    assert run_dir.read(config.train_dir).config.max_steps == 5


@pytest.mark.parametrize(
    "change",
    [{"seed": 3}, {"batch_size": 64}, {"dataset": "digits"}, {"use_fp16": True}],
)
def test_another_run_is_refused_by_name(config, dataset, change):
    claim(config, dataset)
    other = dataclasses.replace(config, **change)
    (name,) = change
    with pytest.raises(UserError, match=f"holds another run .*{name}: "):
        claim(other, dataset)
    assert run_dir.read(config.train_dir).config == config


def test_other_pixels_are_refused(config, dataset):
    claim(config, dataset)
    with pytest.raises(UserError, match="pixels: "):
        claim(config, make_dataset(seed=1))


def test_the_same_run_may_be_trained_once_at_a_time(config, dataset):
    with run_dir.claim(config.train_dir, config, dataset) as run:
        assert run_dir.is_training(run.path)
        with pytest.raises(UserError, match=r"another training \(process \d+\)"):
            claim(config, dataset)
    assert not run_dir.is_training(run.path)
    claim(config, dataset)


def test_asking_whether_a_training_is_at_work_changes_nothing(tmp_path):
    assert not run_dir.is_training(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_train_dir_that_is_a_file(config, dataset, tmp_path):
    (tmp_path / "run").write_text("precious")
    with pytest.raises(UserError, match="cannot be used: "):
        claim(config, dataset)
    assert (tmp_path / "run").read_text() == "precious"


def test_train_dir_below_a_file(config, dataset, tmp_path):
    (tmp_path / "run").write_text("precious")
    below = dataclasses.replace(config, train_dir=str(tmp_path / "run" / "x"))
    with pytest.raises(UserError, match="cannot be used: "):
        claim(below, dataset)


def test_checkpoints_of_nobody_are_left_alone(config, dataset, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match=r"checkpoints but no config\.json"):
        claim(config, dataset)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"config": {}}', '{"config": 3}'])
def test_a_damaged_config_is_an_error(config, dataset, text):
    claim(config, dataset)
    run = run_dir.read(config.train_dir)
    (run.path / "config.json").write_text(text)
    with pytest.raises(UserError, match="is damaged"):
        run_dir.read(config.train_dir)


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"no run in .* train first"):
        run_dir.read(tmp_path)


def test_auto_means_what_the_run_began_with(config, dataset):
    auto = dataclasses.replace(config, dataset="auto")
    assert run_dir.settle_dataset(auto).dataset == "auto"
    digits = dataclasses.replace(config, dataset="digits")
    claim(digits, dataset)
    assert run_dir.settle_dataset(auto).dataset == "digits"
    with pytest.raises(UserError, match="dataset: digits there, cifar10 now"):
        run_dir.settle_dataset(config)


def test_data_dir_is_kept_absolute(config, dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    claim(dataclasses.replace(config, data_dir="data"), dataset)
    assert run_dir.read(config.train_dir).config.data_dir == str(tmp_path / "data")
