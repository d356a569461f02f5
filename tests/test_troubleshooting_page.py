"""Provokes each message of docs/troubleshooting.md: it must be as on the page."""

import dataclasses
import json
import pathlib
import re
import statistics
from unittest import mock

import jax
import pytest
import run_experiments

from cifar_jax import Config, RunError, UserError, load_data
from cifar_jax.data.cifar import cifar10, download
from cifar_jax.devices import sharding
from cifar_jax.runs import checkpoints, checksums, lock, run_dir
from cifar_jax.training import ending
from cifar_jax.training.hooks import finite

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "troubleshooting.md").read_text()
MESSAGES, QUESTIONS = TEXT.split("\n## ")[1:]
QUOTED = re.findall(r"^### .*\n\n((?:    .*\n)+)", MESSAGES, re.M)
# What depends on the machine, on the page.
DATA_DIR = "/home/me/tensorflow_datasets"
REASON = "Name or service not known"


def quoted(beginning: str) -> str:
    """Returns the quoted message that begins like this."""
    [found] = [text for text in QUOTED if text.strip().startswith(beginning)]
    return "\n".join(line.removeprefix("    ") for line in found.splitlines())


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Runs a test in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(download, "why_unreachable", lambda url: REASON)


def test_there_are_ten_messages():
    assert len(QUOTED) == 10
    for words in (r"\*Why:\*", r"\*Way\s+out:\*"):
        assert len(re.findall(words, MESSAGES)) == 10


def test_the_stand_in(offline, folder):
    notice = load_data("auto", folder).notice
    assert notice.replace(str(folder), DATA_DIR) == quoted("The data are sci")


def test_no_cifar10(offline, folder):
    with pytest.raises(UserError) as caught:
        load_data("cifar10", folder)
    message = str(caught.value).replace(str(folder), DATA_DIR)
    assert f"error: {message}" == quoted("error: CIFAR-10 is not in")


def test_other_pixels(monkeypatch, folder):
    published = cifar10.CIFAR10
    parts = {
        split: tuple(
            dataclasses.replace(part, records=1) for part in getattr(published, split)
        )
        for split in ("train", "test")
    }
    monkeypatch.setattr(cifar10, "CIFAR10", dataclasses.replace(published, **parts))
    unpacked = folder / published.binary.folder
    unpacked.mkdir()
    for split in parts.values():
        for part in split:
            (unpacked / f"{part.stem}.bin").write_bytes(bytes(1 + 32 * 32 * 3))
    dataset = load_data("cifar10", folder)
    notice = dataset.notice.replace(str(folder), "/home/me/data")
    notice = notice.replace(dataset.fingerprint[:16], "0123456789abcdef")
    assert notice == quoted("/home/me/data")


def test_another_run(dataset):
    config = Config(train_dir="cifar10_train", dataset="cifar10")
    run = run_dir.from_config(config, dataset)
    (run.checkpoints / "10").mkdir(parents=True)
    run_dir.write_config(run, dataset)
    with pytest.raises(UserError) as caught:
        run_dir.settle_dataset(dataclasses.replace(config, batch_size=64))
    assert f"error: {caught.value}" == quoted("error: --train_dir")


def test_no_run():
    with pytest.raises(UserError) as caught:
        run_dir.read("cifar10_train")
    assert f"error: {caught.value}" == quoted("error: no run")


def test_another_training(monkeypatch):
    monkeypatch.setattr(lock, "LOCK_SECS", 0)
    monkeypatch.setattr(lock.os, "getpid", lambda: 4711)
    directory = pathlib.Path("cifar10_train")
    with (
        lock.hold(directory),
        pytest.raises(UserError) as caught,
        lock.hold(directory),
    ):
        pass
    assert f"error: {caught.value}" == quoted("error: another training run")


def test_fewer_devices(monkeypatch):
    one = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda: one)
    with pytest.raises(UserError) as caught:
        sharding.create_mesh(2)
    assert f"error: {caught.value}" == quoted("error: --num_devices")


def test_an_uneven_batch():
    with pytest.raises(UserError) as caught:
        sharding.check_batch_size(100, 8)
    assert f"error: {caught.value}" == quoted("error: --batch_size")


@pytest.mark.wrong_types
def test_divergence(monkeypatch):
    # Training until it diverges takes seconds, which tests/training does.
    found = finite.NotFinite(1, "the activations of local4")
    monkeypatch.setattr(finite, "explain", lambda *_: found)
    program = mock.Mock(learning_rate=lambda step: 1e30)
    with pytest.raises(RunError) as caught, ending.explain_divergence(None):
        raise finite.divergence_error(program, mock.Mock(), mock.Mock(), 2)
    assert f"error: {caught.value}" == quoted("error: training diverged")


def test_a_damaged_checkpoint(capsys):
    directory = pathlib.Path("cifar10_train/checkpoints")
    for step in ("1000", "2000"):
        (directory / step / "state").mkdir(parents=True)
        (directory / step / "state" / "manifest.ocdbt").write_bytes(b"state")
        checksums.write(directory / step)
    (directory / "2000" / "state" / "manifest.ocdbt").write_bytes(b"stat")
    assert checkpoints.newest_step(directory) == 1000
    assert capsys.readouterr().err.strip() == quoted("warning:")


def test_the_flags_that_may_differ_are_all_that_do_not_define_a_run():
    section = QUESTIONS.split("### May I resume")[1].split("###")[0]
    sentence = section.split("All others")[0]
    free = {f.name for f in dataclasses.fields(Config) if not f.metadata["fixed"]}
    assert set(re.findall(r"`(\w+)`", sentence)) == free


def result(name: str) -> dict:
    """Returns what an experiment has measured."""
    return json.loads(run_experiments.quoted(name).read_text())


def test_figures_are_those_that_were_measured():
    startup = result("startup")
    cold, warm = (
        statistics.median(start["seconds"] for start in startup["starts"][kind])
        for kind in ("cold", "warm")
    )
    assert f"{cold:.0f} s from the command to the first line, {warm:.0f} s" in QUESTIONS
    sizes = {row["batch_size"]: row for row in result("scaling")["batch_size"]}
    small, large = startup["peak_bytes"], sizes[1024]["peak_bytes"]
    found = {
        row["steps"]: f"{row['precision']:.0%}"
        for row in result("max_steps")["rows"]
        if row["seed"] == 0 and row["parameters"] == "averaged parameters"
    }
    words = " ".join(QUESTIONS.split())
    memory = f"{small / 1e9:.1f} GB, or {large / 1e9:.1f} GB with batches of 1,024"
    assert memory in words
    runs = result("fidelity")["programs"]["float32"]
    short = statistics.mean(run["precision"] for run in runs)
    assert f"1,000 steps reach {short:.0%} ([fidelity](fidelity.md))" in words
    assert f"10,000 steps {found[10000]}, and 60,000 steps {found[60000]} " in words


def test_as_many_checkpoints_are_kept_as_it_says():
    words = {3: "three", 4: "four", 5: "five", 6: "six"}
    assert f"the newest {words[checkpoints.KEPT]};" in QUESTIONS
