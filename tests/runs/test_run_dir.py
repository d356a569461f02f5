import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from helpers import make_dataset

from cifar_jax import Config, UserError
from cifar_jax.data.dataset import hold_out_validation
from cifar_jax.runs import lock, run_dir

FOREIGN = r"config.json that does not belong to a run and would"


@pytest.fixture
def config(tmp_path):
    return Config(train_dir=str(tmp_path / "run"), dataset="cifar10")


def claim(config, dataset):
    """Claims the folder of a run like a training that is then stopped."""
    run = run_dir.from_config(config, dataset)
    with run_dir.claim(run):
        return run


def begin(config, dataset):
    """Claims the folder of a run like a training that has saved a checkpoint."""
    run = claim(config, dataset)
    run_dir.write_config(run, dataset)
    (run.checkpoints / "1").mkdir(parents=True, exist_ok=True)
    return run


def test_what_is_written_can_be_read(config, dataset):
    begin(config, dataset)
    run = run_dir.read(config.train_dir)
    assert run.config == config
    assert run.class_names == dataset.class_names
    assert run.image_shape == (32, 32, 3)
    assert run.data_fingerprint == dataset.fingerprint
    saved = json.loads((run.path / "config.json").read_text())
    assert saved["versions"]["jax"]
    assert saved["data"]["official"] is False
    labels = hashlib.sha256(dataset.train.labels.astype("<i4").tobytes()).hexdigest()
    assert run.training_set == (64, 0, labels[:16], "")


def test_where_the_images_come_from_and_their_order_are_recorded(config, dataset):
    few = dataset.subset([3, 1])
    run = run_dir.from_config(config, few, given=run_dir.Given(order="mine, SHA-256 0"))
    with run_dir.claim(run):
        run_dir.write_config(run, few)
    read = run_dir.read(config.train_dir)
    assert read.given.order == "mine, SHA-256 0"
    assert read.data_fingerprint == few.fingerprint
    assert read.test_fingerprint == run.test_fingerprint == dataset.fingerprint


def test_the_range_of_deep_pictures_is_recorded(config, dataset):
    dataset = dataclasses.replace(dataset, value_range=(51241.0, 52181.5))
    begin(config, dataset)
    assert run_dir.read(config.train_dir).value_range == (51241, 52181.5)


def test_official_data_are_recorded_as_official(config, dataset):
    run = begin(config, dataclasses.replace(dataset, official=True))
    saved = json.loads((run.path / "config.json").read_text())
    assert saved["data"]["official"] is True


def test_an_export_is_not_a_run(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_text("")
    message = "is an export, not a run; pass --weights=.*/model..* to predict or demo"
    with pytest.raises(UserError, match=message):
        run_dir.read(tmp_path)


def test_claiming_writes_no_config(config, dataset):
    run = begin(config, dataset)
    before = (run.path / "config.json").read_bytes()
    claim(dataclasses.replace(config, max_steps=5), dataset)
    assert (run.path / "config.json").read_bytes() == before


def test_a_resumed_run_may_have_other_max_steps(config, dataset):
    begin(config, dataset)
    begin(dataclasses.replace(config, max_steps=5), dataset)
    assert run_dir.read(config.train_dir).config.max_steps == 5


@pytest.mark.parametrize(
    "change",
    [{"seed": 3}, {"batch_size": 64}, {"dataset": "digits"}, {"use_fp16": True}],
)
def test_another_run_is_refused_by_name(config, dataset, change):
    begin(config, dataset)
    other = dataclasses.replace(config, **change)
    (name,) = change
    with pytest.raises(UserError, match=f"holds another run .*{name}: "):
        claim(other, dataset)
    assert run_dir.read(config.train_dir).config == config


def test_a_folder_without_a_checkpoint_is_free(config, dataset):
    run_dir.write_config(claim(config, dataset), dataset)
    other = dataclasses.replace(config, seed=3, dataset="auto")
    assert run_dir.settle_dataset(other) == other
    run_dir.write_config(claim(other, dataset), dataset)
    assert run_dir.read(config.train_dir).config.seed == 3


@pytest.mark.parametrize(
    "text", ["{", "[]", "3", '{"generator": "python -m cifar_jax.export"}', "\udcff"]
)
def test_a_config_that_is_not_of_a_run_is_not_overwritten(config, dataset, text):
    file = pathlib.Path(config.train_dir) / "config.json"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=FOREIGN):
        claim(config, dataset)
    with pytest.raises(UserError, match=FOREIGN):
        run_dir.settle_dataset(config)
    assert file.read_bytes() == text.encode(errors="surrogateescape")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_overwritten_and_does_not_hang(config, dataset, make):
    file = pathlib.Path(config.train_dir) / "config.json"
    file.parent.mkdir(exist_ok=True)
    make(file)
    with pytest.raises(UserError, match=FOREIGN):
        claim(config, dataset)


def test_other_pixels_are_refused(config, dataset):
    begin(config, dataset)
    with pytest.raises(UserError, match="data: "):
        claim(config, make_dataset(seed=1))


def test_another_choice_of_training_images_is_refused(config, dataset):
    begin(config, hold_out_validation(dataset, 16))
    claim(config, hold_out_validation(dataset, 16))
    with pytest.raises(UserError) as caught:
        claim(config, hold_out_validation(dataset, 8))
    message = str(caught.value)
    assert "training images: 48 there, 56 now" in message
    assert "validation images: 16 there, 8 now" in message


def test_other_training_images_are_told_by_their_labels(config, dataset):
    whole = hold_out_validation(dataset, 16)
    labels = whole.train.labels.copy()
    assert labels[0] != labels[1]
    labels[:2] = labels[1::-1]
    begin(config, whole)
    train = dataclasses.replace(whole.train, labels=labels)
    message = r"SHA-256 of the training labels: \w{16} there, \w{16} now"
    with pytest.raises(UserError, match=message):
        claim(config, dataclasses.replace(whole, train=train))


def test_other_weights_of_the_images_are_refused(config, dataset):
    weights = np.ones(64)
    first, same, other = (
        dataclasses.replace(
            dataset, train=dataclasses.replace(dataset.train, extra=extra)
        )
        for extra in ({"weight": weights}, {"weight": weights + 0}, {})
    )
    begin(config, first)
    claim(config, same)
    message = r"SHA-256 of the extra arrays: \w{16} there, none now"
    with pytest.raises(UserError, match=message):
        claim(config, other)


def test_a_run_that_did_not_record_its_training_images_can_be_resumed(config, dataset):
    file = begin(config, dataset).path / "config.json"
    saved = json.loads(file.read_text())
    del saved["data"]["train_labels"], saved["data"]["validation"], saved["sha256"]
    file.write_text(json.dumps(saved))
    assert run_dir.read(config.train_dir).training_set is None
    claim(config, dataset)


def test_a_run_can_only_be_trained_once_at_a_time(config, dataset, monkeypatch):
    monkeypatch.setattr(lock, "LOCK_SECS", 0.1)
    run = run_dir.from_config(config, dataset)
    with run_dir.claim(run):
        assert lock.is_training(run.path)
        message = rf"another training run \(process {os.getpid()}\)"
        for _ in range(2):
            with pytest.raises(UserError, match=message):
                claim(config, dataset)
    assert not lock.is_training(run.path)
    claim(config, dataset)


def test_a_killed_training_leaves_no_lock(config, dataset):
    run = claim(config, dataset)
    script = (
        "import filelock, os, sys; filelock.FileLock(sys.argv[1]).acquire();"
        "print(flush=True); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, run.path / ".lock"], check=False)
    assert not lock.is_training(run.path)
    claim(config, dataset)


def test_is_training_changes_nothing(tmp_path):
    assert not lock.is_training(tmp_path)
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


def test_checkpoints_without_a_config_are_left_alone(config, dataset, tmp_path):
    (tmp_path / "run" / "checkpoints" / "7").mkdir(parents=True)
    with pytest.raises(UserError, match=r"checkpoints but no config\.json"):
        claim(config, dataset)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"config": {}}', '{"config": 3}', "[" * 100_000, "\udcff"],
    ids=["empty", "cut", "list", "no data", "number", "deep", "not text"],
)
def test_a_damaged_config_is_an_error(config, dataset, text):
    run = begin(config, dataset)
    file = run.path / "config.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"config\.json (is damaged|cannot be used)"):
        run_dir.read(config.train_dir)


def test_any_flipped_bit_of_the_config_is_noticed(config, dataset):
    run = begin(config, dataset)
    file = run.path / "config.json"
    whole = file.read_bytes()
    for place in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 7
        file.write_bytes(changed)
        with contextlib.suppress(UserError):
            # The flip may hit white space or the checksum's own key.
            assert run_dir.read(run.path) == run


def test_a_flipped_class_name_blames_the_file(config, dataset):
    file = begin(config, dataset).path / "config.json"
    file.write_text(file.read_text().replace("green", "greem"))
    with pytest.raises(
        UserError, match=r"config\.json cannot be used: its sha256 does"
    ):
        run_dir.read(config.train_dir)


def test_a_config_can_be_edited_deliberately(config, dataset, capsys):
    run = begin(config, dataset)
    file = run.path / "config.json"
    file.write_text(
        file.read_text().replace('"log_frequency": 10', '"log_frequency": 7')
    )
    with pytest.raises(UserError, match=r"sha256 does not match.* delete its line"):
        run_dir.read(run.path)
    lines = file.read_text().splitlines()
    assert '"sha256"' in lines[-2]
    lines[-3:] = ["  }", "}"]
    file.write_text("\n".join(lines))
    assert run_dir.read(run.path).config.log_frequency == 7
    assert "has no sha256; it is used as is" in capsys.readouterr().err
    begin(config, dataset)
    run_dir.read(run.path)
    assert capsys.readouterr().err.count("has no sha256") == 1  # From the claim.


def test_an_edit_that_cannot_be_used_blames_the_file(config, dataset):
    run = begin(config, dataset)
    file = run.path / "config.json"
    saved = json.loads(file.read_text())
    del saved["sha256"]
    saved["config"]["batch_size"] = 0
    file.write_text(json.dumps(saved))
    with pytest.raises(UserError, match=r"config\.json cannot be used: --batch_size=0"):
        run_dir.read(run.path)


def test_a_config_that_is_not_a_regular_file_does_not_hang(config, dataset):
    run = begin(config, dataset)
    (run.path / "config.json").unlink()
    os.mkfifo(run.path / "config.json")
    with pytest.raises(UserError, match="not a regular file"):
        run_dir.read(run.path)


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"no run in .* train first"):
        run_dir.read(tmp_path)


def test_auto_means_the_data_set_the_run_began_with(config, dataset):
    auto = dataclasses.replace(config, dataset="auto")
    assert run_dir.settle_dataset(auto).dataset == "auto"
    digits = dataclasses.replace(config, dataset="digits")
    begin(digits, dataset)
    assert run_dir.settle_dataset(auto).dataset == "digits"
    with pytest.raises(UserError, match="dataset: digits there, cifar10 now"):
        run_dir.settle_dataset(config)


def test_data_dir_is_kept_absolute(config, dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begin(dataclasses.replace(config, data_dir="data"), dataset)
    assert run_dir.read(config.train_dir).config.data_dir == str(tmp_path / "data")
