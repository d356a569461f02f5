import dataclasses
import re

import jax
import numpy as np
import pytest
from helpers import latest

from cifar_jax import Config, RunError, UserError, checkpoints, fit, read_run, summaries
from cifar_jax.loop import log_line


def config(train_dir, **changes) -> Config:
    values = {"max_steps": 7, "batch_size": 8, "log_frequency": 2} | changes
    return Config(train_dir=None if train_dir is None else str(train_dir), **values)


def leaves(state) -> list[np.ndarray]:
    raw = dataclasses.replace(state, key=jax.random.key_data(state.key))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(raw)]


def assert_same_bits(state, other):
    for a, b in zip(leaves(state), leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def uninterrupted(dataset):
    lines: list[str] = []
    return fit(config(None), dataset, lines.append).state, lines


def test_log_line_is_the_tutorials():
    line = log_line(0, 4.6784, 128, 0.489)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}: step 0, loss = 4\.68 "
        r"\(261\.8 examples/sec; 0\.489 sec/batch\)",
        line,
    )


def test_log_lines_come_every_log_frequency_steps_and_begin_at_zero(uninterrupted):
    _, lines = uninterrupted
    found = [re.search(r"step (\d+), loss = (\S+) ", line) for line in lines]
    logged = [(int(m[1]), float(m[2])) for m in found if m]
    assert [step for step, _ in logged] == [0, 2, 4, 6]
    # ln 3 for three classes, and the two weight losses.
    assert logged[0][1] == pytest.approx(np.log(3) + 2.19 + 0.18, abs=0.05)


def test_the_network_learns(dataset):
    lines: list[str] = []
    fit(
        config(None, max_steps=61, batch_size=32, log_frequency=20),
        dataset,
        lines.append,
    )
    losses = [float(re.search(r"loss = (\S+)", x)[1]) for x in lines if "loss" in x]
    # Three colours: the cross-entropy of ln 3 all but vanishes.
    assert losses[-1] < losses[0] - 0.8


def test_resumed_is_the_same_bits_as_never_stopped(tmp_path, dataset, uninterrupted):
    state, _ = uninterrupted
    for max_steps in (3, 4, 7):
        result = fit(config(tmp_path, max_steps=max_steps), dataset, lambda _: None)
        assert int(result.state.step) == max_steps
        assert result.signum is None
    assert_same_bits(result.state, state)


def test_without_a_train_dir_nothing_is_written(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(config(None, max_steps=1), dataset, lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_other_seeds_give_other_runs(dataset, uninterrupted):
    other = fit(config(None, seed=1), dataset, lambda _: None).state
    assert not np.array_equal(
        other.params["conv1"]["kernel"], uninterrupted[0].params["conv1"]["kernel"]
    )


def test_at_max_steps_there_is_nothing_to_do(dataset, finished_run):
    before = sorted(path.stat().st_mtime for path in finished_run.rglob("*/*"))
    lines: list[str] = []
    settings = config(finished_run, max_steps=12)
    result = fit(settings, dataset, lines.append)
    assert int(result.state.step) == 12
    assert "nothing to do" in lines[-1]
    assert sorted(path.stat().st_mtime for path in finished_run.rglob("*/*")) == before


def test_max_steps_below_the_checkpoint_is_refused(dataset, finished_run):
    with pytest.raises(UserError, match="--max_steps=5 is below step 12"):
        fit(config(finished_run, max_steps=5), dataset, lambda _: None)
    assert checkpoints.steps(finished_run / "checkpoints") == [12]


def test_a_batch_larger_than_the_set_is_refused(dataset, tmp_path):
    with pytest.raises(UserError, match=r"--batch_size=65 is larger .* has 64 images"):
        fit(config(tmp_path / "run", batch_size=65), dataset, lambda _: None)
    assert not (tmp_path / "run").exists()


def test_the_whole_set_may_be_one_batch(dataset):
    whole = config(None, batch_size=64, max_steps=2)
    assert int(fit(whole, dataset, lambda _: None).state.step) == 2


def test_summaries_come_every_summary_frequency_steps(dataset, tmp_path):
    settings = config(tmp_path, summary_frequency=3)
    result = fit(settings, dataset, lambda _: None)
    records = summaries.read(tmp_path / "train.jsonl")
    assert [record["step"] for record in records] == [0, 3, 6]
    terms = ["cross_entropy", "local3/weight_loss", "local4/weight_loss", "total_loss"]
    for record in records:
        raw = [record[f"{name} (raw)"] for name in terms]
        assert sum(raw[:-1]) == pytest.approx(raw[-1], rel=1e-6)
        assert record["learning_rate"] == pytest.approx(0.1)
        assert record["conv1/sparsity"] > 0
    # TensorFlow's average of a tensor starts from zero, at decay 0.9.
    first = records[0]
    assert first["total_loss"] == pytest.approx(0.1 * first["total_loss (raw)"])
    last = records[-1]["total_loss"]
    assert last == pytest.approx(float(result.state.loss_averages["total_loss"]))


def test_checkpoints_come_by_the_clock(dataset, tmp_path):
    settings = config(tmp_path, save_interval_secs=0.0)
    fit(settings, dataset, lambda _: None)
    assert checkpoints.steps(tmp_path / "checkpoints") == [1, 3, 5, 7]


def test_divergence_names_step_rate_layer_and_what_is_safe(dataset, tmp_path):
    wild = config(tmp_path, learning_rate=1e20, max_steps=50, save_interval_secs=0.0)
    with pytest.raises(RunError) as caught:
        fit(wild, dataset, lambda _: None)
    message = str(caught.value)
    where = re.search(
        r"diverged at step (\d+), learning rate 1e\+20: the (.+) of (\w+)", message
    )
    assert where, message
    saved = checkpoints.steps(tmp_path / "checkpoints")
    assert saved == [1]
    assert f"last good checkpoint is {tmp_path}/checkpoints/1;" in message
    network = read_run(tmp_path)
    state = latest(
        network.checkpoints, fit(config(None, max_steps=1), dataset, print).state
    )
    assert all(np.isfinite(leaf).all() for leaf in leaves(state))


def test_divergence_before_any_checkpoint(dataset, tmp_path):
    wild = config(tmp_path, learning_rate=1e38, log_frequency=50)
    with pytest.raises(RunError, match="nothing was saved yet"):
        fit(wild, dataset, lambda _: None)
    assert checkpoints.steps(tmp_path / "checkpoints") == []


def test_device_placement_is_told_on_request(dataset, capsys):
    lines: list[str] = []
    fit(config(None, max_steps=1, log_device_placement=True), dataset, lines.append)
    text = "\n".join(lines)
    assert "state.params['conv1']['kernel']: float32[5, 5, 3, 64] on" in text
    assert "data[0]: uint8[64, 32, 32, 3] on" in text
    assert "train step: compiled for" in text


def test_bfloat16_trains_with_float32_state(dataset):
    state = fit(config(None, use_fp16=True, max_steps=3), dataset, lambda _: None).state
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((state.params, state.opt_state))}
    assert dtypes <= {np.dtype("float32"), np.dtype("int32")}
