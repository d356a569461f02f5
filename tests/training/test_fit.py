import dataclasses
import re
import shutil
import signal
import threading
import time

import jax
import numpy as np
import pytest
from helpers import assert_equal_states, damages, files_of, latest, silent

from cifar_jax import (
    Config,
    RunError,
    Stopped,
    UserError,
    evaluate,
    fit,
    load_data,
    load_trained,
    read_run,
)
from cifar_jax.data.dataset import hold_out_validation
from cifar_jax.runs import checkpoints, run_dir
from cifar_jax.training.inspection import all_finite
from cifar_jax.writers import jsonl as summaries


def config(train_dir, **changes) -> Config:
    values = {"max_steps": 7, "batch_size": 8, "log_frequency": 2, "model": "small"}
    train_dir = None if train_dir is None else str(train_dir)
    return Config(train_dir=train_dir, **values | changes)


@pytest.fixture(scope="module")
def uninterrupted(dataset):
    lines: list[str] = []
    return fit(config(None), dataset, lines.append).state, lines


def test_log_lines_come_every_log_frequency_steps_and_begin_at_zero(uninterrupted):
    _, lines = uninterrupted
    found = [re.search(r"step (\d+), loss = (\S+) ", line) for line in lines]
    assert [int(m[1]) for m in found if m] == [0, 2, 4, 6]


def test_the_network_learns(dataset):
    lines: list[str] = []
    learning = config(None, max_steps=61, batch_size=32, log_frequency=20)
    network = fit(learning, dataset, lines.append).trained
    losses = [float(re.search(r"loss = (\S+)", x)[1]) for x in lines if "loss" in x]
    assert losses[-1] < losses[0] - 0.5
    assert evaluate(network, dataset.test) > 0.9


def interrupted_at(step: int, signum: int):
    """Returns a log function that signals this process at the line of a step."""

    def log(line: str) -> None:
        if f": step {step}," in line:
            signal.raise_signal(signum)

    return log


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops_the_caller(dataset, tmp_path, uninterrupted, signum):
    before = signal.getsignal(signum)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(config(tmp_path), dataset, interrupted_at(2, signum))
    assert isinstance(caught.value, Stopped)
    assert caught.value.signum == signum
    assert signal.getsignal(signum) is before
    (step,) = checkpoints.steps(tmp_path / "checkpoints")
    assert f"before step {step}; saved {tmp_path}/checkpoints/{step}" in str(
        caught.value
    )
    assert_equal_states(fit(config(tmp_path), dataset, silent).state, uninterrupted[0])


def test_a_sweep_ends_at_ctrl_c(dataset):
    """As in the README: no further rate is trained, and no partial run is evaluated."""
    log, begun = interrupted_at(2, signal.SIGINT), []

    def sweep():
        for rate in (0.1, 0.05):
            begun.append(rate)
            network = fit(config(None, learning_rate=rate), dataset, log).trained
            begun.append(evaluate(network, dataset.test))

    with pytest.raises(KeyboardInterrupt, match="nothing is saved without a train_dir"):
        sweep()
    assert begun == [0.1]


def test_other_threads_may_train_too(dataset, uninterrupted):
    found = []
    thread = threading.Thread(
        target=lambda: found.append(fit(config(None), dataset, silent).state)
    )
    thread.start()
    thread.join()
    assert_equal_states(found[0], uninterrupted[0])


def test_without_a_train_dir_nothing_is_written(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(config(None), dataset, silent)
    assert list(tmp_path.iterdir()) == []


def test_other_seeds_give_other_runs(dataset, uninterrupted):
    other = fit(config(None, seed=1), dataset, silent).state
    assert not np.array_equal(
        other.params["hidden"]["kernel"], uninterrupted[0].params["hidden"]["kernel"]
    )


def test_at_max_steps_there_is_nothing_to_do(dataset, finished_run):
    lines: list[str] = []
    before = files_of(finished_run)
    result = fit(
        config(finished_run, max_steps=12, log_frequency=10), dataset, lines.append
    )
    assert int(result.state.step) == 12
    assert "nothing to do" in lines[-1]
    unlocked = {".lock": b""}
    assert files_of(finished_run) | unlocked == before | unlocked


def test_a_refused_command_changes_nothing_on_disk(dataset, finished_run):
    before = files_of(finished_run)
    with pytest.raises(UserError, match="--max_steps=5 is below step 12"):
        fit(config(finished_run, max_steps=5), dataset, silent)
    unlocked = {".lock": b""}
    assert files_of(finished_run) | unlocked == before | unlocked


def test_a_start_without_a_checkpoint_can_be_corrected(dataset, tmp_path):
    """A run that fails before its first checkpoint leaves only summaries."""
    with pytest.raises(RunError, match="diverged"):
        fit(config(tmp_path, learning_rate=1e20, summary_frequency=1), dataset, silent)
    assert checkpoints.steps(tmp_path / "checkpoints") == []
    assert summaries.read_training(tmp_path / "train.jsonl")
    result = fit(config(tmp_path, summary_frequency=5), dataset, silent)
    assert int(result.state.step) == 7
    assert read_run(tmp_path).config.learning_rate == pytest.approx(0.1)
    records = summaries.read_training(tmp_path / "train.jsonl")
    assert [record["step"] for record in records] == [0, 5]


def test_a_batch_larger_than_the_set_is_refused_with_a_way_out(dataset, tmp_path):
    message = (
        "--batch_size=65 is larger .* has 64 images.*"
        "pass a smaller one, or --recipe=finetune"
    )
    with pytest.raises(UserError, match=message):
        fit(config(tmp_path / "run", batch_size=65), dataset, silent)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "held_out"), [(16, 0), (16, 8), (0, 8), (8, 8), (0, 0)]
)
def test_the_validation_size_is_that_of_the_data(dataset, tmp_path, setting, held_out):
    data = hold_out_validation(dataset, held_out)
    settings = config(tmp_path / "run", validation_size=setting)
    if setting not in (0, held_out):
        message = f"--validation_size={setting}, but cifar10 holds out {held_out} train"
        with pytest.raises(UserError, match=message):
            fit(settings, data, silent)
        assert not (tmp_path / "run").exists()
        return
    fit(settings, data, silent)
    run = read_run(tmp_path / "run")
    assert run.config.validation_size == held_out
    assert run.training_set[:2] == (64 - held_out, held_out)
    if held_out:
        with pytest.raises(UserError, match="training images: 56 there, 64 now"):
            fit(config(tmp_path / "run"), dataset, silent)
    assert fit(config(tmp_path / "run"), data, silent).steps == 0


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"images": np.zeros((64, 32, 32, 3))}, "dataset.train.images must be bytes"),
        ({"images": np.zeros((64, 32, 32), np.uint8)}, "repeat gray images"),
        ({"labels": np.full(64, 10)}, "dataset.train.labels contains 10"),
        ({"labels": np.full(64, -1)}, "dataset.train.labels are all -1"),
        (
            {"labels": np.zeros(65, int)},
            "there are 64 images but 65 dataset.train.labels",
        ),
        (
            {"images": np.zeros((0, 32, 32, 3), np.uint8), "labels": np.zeros(0, int)},
            "dataset.train.images is empty",
        ),
    ],
)
def test_data_that_cannot_be_used_are_refused(dataset, tmp_path, train, message):
    spoiled = dataclasses.replace(
        dataset, train=dataclasses.replace(dataset.train, **train)
    )
    with pytest.raises(UserError, match=re.escape(message)):
        fit(config(tmp_path / "run"), spoiled, silent)
    assert not (tmp_path / "run").exists()


@pytest.mark.wrong_types
def test_anything_but_a_config_is_refused(dataset):
    with pytest.raises(
        UserError, match=r"config must be a cifar_jax\.Config, not a dict"
    ):
        fit({"max_steps": 3}, dataset, silent)


def test_summaries_come_every_summary_frequency_steps(dataset, tmp_path):
    settings = config(tmp_path, summary_frequency=3)
    result = fit(settings, dataset, silent)
    records = summaries.read_training(tmp_path / "train.jsonl")
    assert [record["step"] for record in records] == [0, 3, 6]
    terms = ["cross_entropy", "hidden/weight_loss", "total_loss"]
    for record in records:
        raw = [record[f"{name}_raw"] for name in terms]
        assert sum(raw[:-1]) == pytest.approx(raw[-1], rel=1e-6)
        assert record["learning_rate"] == pytest.approx(0.1)
        assert 0 < record["hidden/sparsity"] < 1
        assert record["global_step/sec"] > 0
    # TensorFlow's average of a tensor starts from zero, with a decay of 0.9.
    first = records[0]
    assert first["total_loss"] == pytest.approx(0.1 * first["total_loss_raw"])
    last = records[-1]["total_loss"]
    assert last == pytest.approx(float(result.state.loss_averages["total_loss"]))


def test_checkpoints_are_saved_by_the_clock(dataset, tmp_path):
    settings = config(tmp_path, save_interval_secs=0.0)
    fit(settings, dataset, silent)
    assert checkpoints.steps(tmp_path / "checkpoints") == [1, 3, 5, 7]


@pytest.mark.parametrize(
    ("settings", "saved"),
    [
        ({"save_frequency": 3}, [3, 6, 7]),
        ({"save_frequency": 2, "keep": 2}, [6, 7]),
        ({"save_frequency": 1, "keep": "all"}, [1, 2, 3, 4, 5, 6, 7]),
        ({"save_frequency": 1}, [3, 4, 5, 6, 7]),
        ({"save_frequency": 1, "keep": 1}, [7]),
        ({}, [7]),
    ],
    ids=str,
)
def test_checkpoints_are_saved_by_steps_and_kept(
    dataset, tmp_path, uninterrupted, settings, saved
):
    result = fit(config(tmp_path, **settings), dataset, silent)
    assert checkpoints.steps(tmp_path / "checkpoints") == saved
    assert_equal_states(result.state, uninterrupted[0])


def test_the_speed_in_the_log_leaves_saves_out(dataset, tmp_path, monkeypatch):
    """Uses a clock on which only saves take long, an hour each."""
    hours = [0]
    real, save = time.perf_counter, checkpoints.save

    def save_for_an_hour(*arguments):
        save(*arguments)
        hours[0] += 1

    monkeypatch.setattr(checkpoints, "save", save_for_an_hour)
    monkeypatch.setattr(
        "cifar_jax.training.loop.time.perf_counter",
        lambda: real() + 3600 * hours[0],
    )
    lines: list[str] = []
    fit(config(tmp_path, save_interval_secs=0.0), dataset, lines.append)
    speeds = [re.search(r"; (\S+) sec/batch", line) for line in lines]
    speeds = [float(speed[1]) for speed in speeds if speed]
    assert hours == [4]
    assert len(speeds) == 4
    assert max(speeds) < 600


def test_divergence_names_step_rate_layer_and_last_checkpoint(
    dataset, tmp_path, uninterrupted
):
    wild = config(tmp_path, learning_rate=1e20, save_interval_secs=0.0)
    with pytest.raises(RunError) as caught:
        fit(wild, dataset, silent)
    message = str(caught.value)
    where = re.search(
        r"diverged at step (\d+), learning rate 1e\+20: the (.+) of (\w+)", message
    )
    assert where, message
    saved = checkpoints.steps(tmp_path / "checkpoints")
    assert saved == [1]
    assert f"last checkpoint is {tmp_path}/checkpoints/1;" in message
    state = latest(read_run(tmp_path).checkpoints, uninterrupted[0])
    assert all_finite(state)


def test_a_damaged_checkpoint_is_skipped_and_the_end_is_the_same(
    dataset, tmp_path, uninterrupted, capsys
):
    fit(config(tmp_path, save_interval_secs=0.0), dataset, silent)
    shutil.rmtree(tmp_path / "checkpoints" / "7")
    newest = tmp_path / "checkpoints" / "5"
    damages()["truncated"](newest / "state" / "manifest.ocdbt")
    lines: list[str] = []
    state = fit(config(tmp_path), dataset, lines.append).state
    assert f"{newest} is damaged: state/manifest.ocdbt has" in capsys.readouterr().err
    assert f"resumed from step 3 of {tmp_path}" in lines
    assert_equal_states(state, uninterrupted[0])


def test_device_placement_is_logged_on_request(dataset):
    lines: list[str] = []
    fit(config(None, log_device_placement=True), dataset, lines.append)
    text = "\n".join(lines)
    assert "state.params['hidden']['kernel']: float32[192, 32] on" in text
    assert "data[0]: uint8[64, 32, 32, 3] on" in text
    assert "train step: compiled for" in text


def test_a_run_too_short_for_a_profile_is_reported(dataset, tmp_path):
    lines: list[str] = []
    fit(config(tmp_path, max_steps=1, profile=True), dataset, lines.append)
    assert any(line.startswith("no trace was written: the run") for line in lines)
    assert not (tmp_path / "profile").exists()


@pytest.mark.slow
def test_bfloat16_trains_with_float32_state(dataset):
    settings = Config(
        train_dir=None, use_fp16=True, max_steps=2, batch_size=4, ops="plain"
    )
    state = fit(settings, dataset, silent).state
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((state.params, state.opt_state))}
    assert dtypes <= {np.dtype("float32"), np.dtype("int32")}


def test_a_run_by_epochs_says_its_steps_and_resumes(dataset, tmp_path):
    config = Config(
        model="small",
        num_epochs=1.5,
        batch_size=100,
        schedule="cosine",
        train_dir=str(tmp_path / "run"),
    )
    lines = []
    result = fit(config, dataset, lines.append)
    # 64 images make a batch of 64.
    assert result.steps == 2
    assert lines[0] == "--num_epochs=1.5: 64 images in batches of 64, 2 steps"
    saved = read_run(tmp_path / "run").config
    assert (saved.num_epochs, saved.batch_size, saved.max_steps) == (1.5, 64, 2)
    settled = run_dir.settle_dataset(dataclasses.replace(config, dataset="auto"))
    assert settled.dataset == dataset.name
    assert fit(config, dataset, silent).steps == 0
    other, refused = dataclasses.replace(config, num_epochs=3), "max_steps: 2 there, 3"
    with pytest.raises(UserError, match=refused):
        run_dir.settle_dataset(dataclasses.replace(other, dataset="auto"))
    with pytest.raises(UserError, match=refused):
        fit(other, dataset, silent)


def test_a_checkpoint_of_another_run_is_not_resumed(tmp_path, dataset, capsys):
    first, second = (
        config(str(tmp_path / name), seed=seed) for name, seed in (("a", 0), ("b", 1))
    )
    for each in (first, second):
        fit(each, dataset)
    shutil.copytree(tmp_path / "b/checkpoints/7", tmp_path / "a/checkpoints/9")
    shutil.copytree(tmp_path / "a/checkpoints/7", tmp_path / "a/checkpoints/20261128")
    resumed = fit(dataclasses.replace(first, max_steps=9), dataset)
    assert resumed.steps == 2
    said = capsys.readouterr().err
    assert "20261128 is from step 7" in said
    assert "9 is from step 7" in said
    shutil.rmtree(tmp_path / "a/checkpoints/7")
    shutil.copytree(tmp_path / "b/checkpoints/7", tmp_path / "a/checkpoints/7")
    with pytest.raises(RunError, match="7 belongs to another run"):
        load_trained(read_run(tmp_path / "a"), step=7)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dataset", "cifar100"),
        ("labels", "coarse"),
        ("picture_size", 16),
        ("skip_damaged", True),
        ("split_seed", 3),
        ("validation_size", 8),
    ],
)
def test_settings_of_other_data_are_refused(dataset, name, value):
    with pytest.raises(UserError, match=rf"--{name}={value}, but .*leave the setting"):
        fit(config(None, **{name: value}), dataset)


def test_settings_that_the_data_were_loaded_with_are_taken():
    dataset = load_data("digits", validation_size=8)
    settings = config(None, dataset="digits", validation_size=8, max_steps=1)
    assert fit(settings, dataset, silent).steps == 1


@pytest.mark.wrong_types
def test_a_log_that_cannot_be_called_is_refused(dataset):
    with pytest.raises(UserError, match="log=None must be a function of a line"):
        fit(config(None), dataset, log=None)


@pytest.mark.parametrize("name", ["train_dir", "data_dir", "init_from"])
def test_a_path_that_no_file_can_have_is_refused(name):
    with pytest.raises(UserError, match=rf"--{name}='a\\x00b' contains"):
        Config(**{name: "a\0b"})
