"""Tests the eval command on CIFAR-10.1 and CIFAR-10-C, on files of their layout."""

import json
import re
import shutil

import numpy as np
import pytest
import robustness_files as files
from helpers import assert_one_line

from cifar_jax import load_trained, predict_logits, read_run
from cifar_jax.data.cifar import cifar10, download
from cifar_jax.writers import jsonl as summaries


@pytest.fixture
def run(digits_run, tmp_path):
    """Returns a run that looks like one on CIFAR-10, in `run`."""
    path = shutil.copytree(digits_run / "run", tmp_path / "run")
    config = json.loads((path / "config.json").read_text())
    config["data"] |= {
        "class_names": cifar10.LABELS.class_names,
        "source": "CIFAR-10, from a test",
    }
    config["data"]["fingerprint"] = cifar10.OFFICIAL.ordered
    config["config"]["dataset"] = "cifar10"
    rewrite(path, config)
    return path


def rewrite(path, config):
    config.pop("sha256", None)
    (path / "config.json").write_text(json.dumps(config))


@pytest.fixture
def few_images(monkeypatch, tmp_path):
    files.expect_few_images(monkeypatch)
    monkeypatch.setattr(download, "why_unreachable", lambda url: "no network here")
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def call_with(call_command, *flags):
    where = ("--checkpoint_dir=run", "--data_dir=data")
    return call_command("eval", *where, f"--batch_size={files.IMAGES}", *flags)


def mistakes(network, images, labels):
    """Returns for each image whether it is misclassified."""
    logits = predict_logits(network, images)
    return logits.argmax(axis=1) != labels


def test_cifar10_1_is_evaluated_like_a_split(run, call_command, few_images, tmp_path):
    files.write_cifar10_1(few_images)
    flags = ("--eval_data=cifar10.1", "--report=out")
    result = call_with(call_command, *flags)
    assert result.returncode == 0, result.stderr
    assert "averaged parameters, 6 cifar10.1 images" in result.stdout
    assert result.stdout.count("are not the official CIFAR-10.1 v6") == 2
    assert "trained on" not in result.stdout
    arrays = files.cifar10_1()
    precision = 1 - np.mean(mistakes(load_trained(read_run(run)), *arrays.values()))
    assert f"precision @ 1 = {precision:.3f}\n" in result.stdout
    (record,) = summaries.read_evaluations(run / "eval" / "cifar10.1.jsonl")
    assert record["precision_at_1"] == pytest.approx(precision)
    assert record["num_examples"] == record["examples_in_split"] == 6
    assert list((run / "eval").glob("events.out.tfevents.*"))
    page = (tmp_path / "out" / "report.html").read_text()
    assert "6 cifar10.1 images" in page
    assert "are not the official CIFAR-10.1 v6" in page


@pytest.mark.slow
def test_cifar10_c_prints_and_records_every_error(
    run, call_command, few_images, tmp_path
):
    files.write_archive(few_images)
    result = call_with(call_command, "--eval_data=cifar10-c", "--report=out")
    assert result.returncode == 0, result.stderr
    assert "6 cifar10-c images of each corruption and severity" in result.stdout
    (record,) = summaries.read_evaluations(run / "eval" / "cifar10-c.jsonl")
    assert record["num_examples"] == record["examples_in_split"] == 95 * 6
    arrays = files.cifar10_c()
    labels = arrays.pop("labels")
    network = load_trained(read_run(run))
    errors = {
        name: mistakes(network, images, labels).reshape(5, -1).mean(axis=1)
        for name, images in arrays.items()
    }
    for name, row in errors.items():
        found = [record[f"{name}/{severity}"] for severity in range(1, 6)]
        np.testing.assert_allclose(found, row, atol=1e-12)
        line = re.search(rf"^{name} (.*)$", result.stdout, re.MULTILINE)[1]
        assert [float(value) for value in line.split()] == pytest.approx(
            [*(100 * row), 100 * row.mean()], abs=0.051
        )
    rows = list(errors.values())
    for count in (15, 19):
        mean = np.mean(rows[:count])
        assert record[f"mean_corruption_error_{count}"] == pytest.approx(mean)
        assert f"{100 * mean:.1f}% over" in result.stdout
    saved = json.loads((tmp_path / "out" / "corruptions.json").read_text())
    assert saved["step"] == 20
    assert saved["num_images"] == saved["examples_in_split"] == 95 * 6
    assert result.stdout.endswith("report written to out/corruptions.png\n")


@pytest.mark.slow
def test_some_images_of_cifar10_c_are_never_taken_for_all(
    run, call_command, few_images
):
    files.write_folder(few_images)
    flags = ("--eval_data=cifar10-c", "--num_examples=2", "--raw_params")
    result = call_with(call_command, *flags, "--run_once=False")
    assert result.returncode == 0, result.stderr
    assert "raw parameters, the first 2 of 6 cifar10-c images of each" in result.stdout
    path = run / "eval" / "cifar10-c_raw_partial.jsonl"
    assert json.loads(path.read_text())["num_examples"] == 95 * 2
    assert summaries.read_evaluations(path) == []


@pytest.mark.usefixtures("run", "few_images")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar10.1", ["cifar10.1_v6_labels.npy", "into data,", "--data_dir"]),
        ("cifar10-c", ["put CIFAR-10-C.tar", "into data,", "zenodo.org"]),
    ],
)
def test_without_files_and_network_the_message_says_what_to_do(
    call_command, name, words
):
    result = call_with(call_command, f"--eval_data={name}")
    assert_one_line(result, 2, "no network here", *words)


@pytest.mark.usefixtures("run")
def test_missing_corruptions_are_refused_by_name(call_command, few_images):
    folder = files.write_folder(few_images)
    (folder / "fog.npy").unlink()
    (folder / "saturate.npy").unlink()
    result = call_with(call_command, "--eval_data=cifar10-c")
    assert_one_line(result, 2, "has no fog.npy, saturate.npy", "a fresh copy of")


@pytest.mark.parametrize("name", ["cifar10.1", "cifar10-c"])
def test_networks_of_other_classes_are_refused(digits_run, call_command, name):
    flags = (f"--checkpoint_dir={digits_run / 'run'}", f"--eval_data={name}")
    result = call_command("eval", *flags)
    assert_one_line(result, 2, f"--eval_data={name}", "digits", "--dataset=cifar10")


def test_a_run_on_other_pixels_is_announced(run, call_command, few_images):
    files.write_cifar10_1(few_images)
    config = json.loads((run / "config.json").read_text())
    config["data"]["fingerprint"] = "0" * 64
    rewrite(run, config)
    result = call_with(call_command, "--eval_data=cifar10.1")
    warning = "warning: not trained on official CIFAR-10: CIFAR-10, from a test"
    assert warning in result.stdout


@pytest.mark.usefixtures("run")
def test_other_files_are_not_overwritten(call_command, few_images, tmp_path):
    files.write_folder(few_images)
    (tmp_path / "corruptions.png").write_text("mine")
    result = call_with(call_command, "--eval_data=cifar10-c", "--report=.")
    assert_one_line(result, 2, "corruptions.png was not written by --report")
    assert (tmp_path / "corruptions.png").read_text() == "mine"


@pytest.mark.slow
def test_the_real_command_on_an_archive_of_the_real_size(run, run_command, tmp_path):
    (tmp_path / "data").mkdir()
    files.write_sparse_archive(tmp_path / "data" / "CIFAR-10-C.tar")
    flags = ("--checkpoint_dir=run", "--data_dir=data", "--eval_data=cifar10-c")
    result = run_command("eval", *flags, "--num_examples=3")
    assert result.returncode == 0, result.stderr
    assert "the first 3 of 10000 cifar10-c images" in result.stdout
    assert "mean corruption error = " in result.stdout
    assert result.stderr.count("\n") == 1  # The edited config.json.
