"""Tests commands on chosen training images, from training to evaluation."""

import json
import shutil

import numpy as np
import pytest
from helpers import assert_equal_states, assert_one_line, state_of

from cifar_jax import Config, Split, fit, load_data, load_trained, read_run
from cifar_jax.writers import jsonl as summaries

QUICK = ("--dataset=digits", "--batch_size=8", "--model=small", "--log_frequency=1")
CHANGES = [
    ("--data_changes=long_tail(10), label_noise(0.4)", "--train_size=100"),
    ("--train_size=200",),
    ("--data_changes=classes(('3', '5'))", "--validation_size=97"),
    ("--data_changes=asymmetric_noise(0.4, (('3', '5'), ('5', '3')))",),
    ("--data_changes=hide_labels(100)", "--distortions=crop, mixup", "--stream"),
]
# Each takes a dozen commands.
FAST, *SLOW = CHANGES


def train(call_command, folder, *flags):
    result = call_command("train", *QUICK, f"--train_dir={folder}", *flags)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    "flags",
    [FAST, *(pytest.param(flags, marks=pytest.mark.slow) for flags in SLOW)],
    ids=lambda flags: flags[0],
)
def test_runs_resume_to_the_same_bits_and_are_evaluated(call_command, tmp_path, flags):
    train(call_command, "whole", *flags, "--max_steps=6")
    train(call_command, "part", *flags, "--max_steps=3")
    train(call_command, "part", *flags, "--max_steps=6")
    assert_equal_states(state_of(tmp_path / "part", 6), state_of(tmp_path / "whole", 6))
    unchanged = call_command("train", *QUICK, "--train_dir=part", "--max_steps=6")
    assert_one_line(unchanged, 2, "holds another run", flags[0][2:].partition("=")[0])
    held_out = ["validation"] if "--validation_size=97" in flags else []
    for split in ("test", "train_eval", *held_out):
        result = call_command("eval", "--checkpoint_dir=part", f"--eval_data={split}")
        assert result.returncode == 0, result.stderr
        assert "warning" not in result.stdout
        assert (tmp_path / "part" / "eval" / f"{split}.jsonl").exists()
    data = json.loads((tmp_path / "part" / "config.json").read_text())["data"]
    assert data["fingerprint"] != load_data("digits").fingerprint
    assert not data["official"]


def test_what_is_chosen_is_said_and_recorded(call_command, tmp_path):
    log = train(call_command, "run", "--train_size=200", "--max_steps=1")
    source = "200 training images chosen from 1,497"
    first = log.splitlines()[0]
    assert first.startswith("digits: 200 training and 300 test images from ")
    assert first.endswith(source)
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["config"]["train_size"] == 200
    assert saved["data"]["train"] == 200
    assert saved["data"]["source"].endswith(source)
    assert saved["data"]["origin"] == load_data("digits").fingerprint
    for flag, word in (
        ("long_tail(20)", "training images per class: 0 "),
        ("hide_labels(30)", "training images without a label: 1,467"),
    ):
        log = train(call_command, "", f"--data_changes={flag}", "--max_steps=1")
        assert word in log


def test_few_images_are_compared_with_all(call_command, tmp_path):
    train(call_command, "few", "--train_size=200", "--max_steps=1")
    train(call_command, "all", "--max_steps=1")
    result = call_command("compare", "few", "all")
    assert "train_size" in result.stdout
    assert "not comparable" not in result.stdout


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--train_size=0"], ["--train_size=0 must be at least 1"]),
        (["--train_size=1498"], ["1498 training images", "digits has 1497"]),
        (["--train_size=many"], ["--train_size=many"]),
        (["--train_size=4"], ["--batch_size=8 is larger", "4 images"]),
        (["--data_changes=classes(('cat',))"], ["no class 'cat'; choose from 0, 1"]),
        (["--data_changes=long_tail"], ["long_tail cannot be used", "'factor'"]),
        (["--data_changes=label_noise(2)"], ["fraction=2.0 must be at most 1"]),
        (["--data_changes=shuffle"], ["shuffle is unknown; choose from classes"]),
        (["--data_changes=sample(9), sample(9)"], ["lists sample(9) 2 times"]),
        (["--data_changes=hide_labels(9999)"], ["more than the 1497 training labels"]),
    ],
)
def test_impossible_choices_are_reported_on_one_line(call_command, flags, words):
    assert_one_line(call_command("train", *QUICK, "--train_dir=", *flags), 2, *words)


@pytest.fixture
def fitted(tmp_path):
    """Trains on digits chosen in Python; returns the folder's name and the data."""

    def run(dataset):
        config = Config(
            model="small", batch_size=8, max_steps=2, train_dir=str(tmp_path / "run")
        )
        fit(config, dataset, lambda line: None)
        return dataset

    return run


def test_changes_made_when_loading_are_recorded_like_flags(
    fitted, call_command, tmp_path
):
    loaded = load_data("digits", train_size=100, data_changes="long_tail(2)")
    fitted(loaded)
    config = read_run(tmp_path / "run").config
    assert (config.train_size, config.data_changes) == (100, "long_tail(2)")
    result = call_command("eval", "--checkpoint_dir=run", "--eval_data=train_eval")
    assert "100 train_eval images" in result.stdout
    assert "warning" not in result.stdout


def test_a_subset_made_in_python_is_evaluated_on_the_test_images(
    fitted, call_command, tmp_path
):
    whole = load_data("digits")
    few = fitted(whole.subset(np.arange(0, 1497, 3)))
    result = call_command("eval", "--checkpoint_dir=run")
    assert result.returncode == 0, result.stderr
    assert "warning" not in result.stdout
    (record,) = summaries.read_evaluations(tmp_path / "run" / "eval" / "test.jsonl")
    assert record["fingerprint"] == few.fingerprint
    result = call_command("eval", "--checkpoint_dir=run", "--eval_data=train_eval")
    assert f"warning: trained on other images or labels: {few.source}" in result.stdout
    assert (tmp_path / "run" / "eval" / "train_eval_other_data.jsonl").exists()
    shutil.rmtree(tmp_path / "run")
    fitted(whole)
    assert "trained on other" not in call_command("eval", "--checkpoint_dir=run").stdout


def test_other_classes_are_not_evaluated(fitted, call_command, tmp_path):
    whole = load_data("digits")

    def two(split):
        kept = np.flatnonzero(split.labels < 2)
        return Split(split.images[kept], split.labels[kept])

    parts = two(whole.train), two(whole.test)
    made = type(whole).create("digits", *parts, class_names=("0", "1"))
    fitted(made)
    result = call_command("eval", "--checkpoint_dir=run")
    assert_one_line(result, 2, "was trained on 2 classes", "has 10")
    assert load_trained(read_run(tmp_path / "run")).class_names == ("0", "1")
