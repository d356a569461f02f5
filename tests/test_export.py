"""Tests the export command, and its files in processes without cifar_jax."""

import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import assert_one_line, environment, files_of, make_dataset
from safetensors.numpy import load_file

from cifar_jax import classify, load_trained, read_run
from cifar_jax.evaluation import exports

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "export.md").read_text()
SCRIPTS = re.findall(r"```python\n(.*?)```", PAGE, re.S)
SIZES = (1, 3, 17)


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory):
    """Returns a folder with an export of the finished run in `exported`."""
    run = read_run(finished_run)
    folder = tmp_path_factory.mktemp("export")
    exports.write(folder / "exported", run, load_trained(run), raw_params=False)
    return folder


def test_the_command_writes_the_files(finished_run, exported, call_command, tmp_path):
    words = (f"--checkpoint_dir={finished_run}", "--out=new/exported")
    result = call_command("export", *words)
    assert result.returncode == 0, result.stderr
    note, done = result.stdout.splitlines()
    assert note == f"step 12 of {finished_run}, averaged parameters; trained on a test"
    assert done == (
        "exported to new/exported: model.stablehlo, model.safetensors, config.json"
    )
    found = files_of(tmp_path / "new" / "exported")
    # The same wherever it was called from, and after it has replaced itself.
    assert found == files_of(exported / "exported")
    assert call_command("export", *words).returncode == 0
    assert files_of(tmp_path / "new" / "exported") == found


def test_the_config_says_what_was_exported(finished_run, exported):
    run = read_run(finished_run)
    files = files_of(exported / "exported")
    config = json.loads(files.pop("config.json"))
    assert config["sha256"] == {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items()
    }
    assert config["generator"] == "python -m cifar_jax.export"
    expected = {
        "format": 1,
        "model": "small",
        "dtype": "float32",
        "parameters": "averaged",
        "step": 12,
        "image_shape": [32, 32, 3],
        "image_size": 24,
        "normalization": "image",
        "views": "center",
        "data_source": "a test",
        "data_fingerprint": run.data_fingerprint,
        "class_names": ["red", "green", "blue"],
    }
    assert config | expected == config
    assert config["versions"]["jax"]


def test_the_files_do_not_name_those_of_this_machine(exported):
    for content in files_of(exported / "exported").values():
        assert b".py" not in content
        assert str(ROOT).encode() not in content


def test_raw_parameters(finished_run, call_command, tmp_path):
    flag = f"--checkpoint_dir={finished_run}"
    result = call_command("export", flag, "--out=raw", "--raw_params")
    assert ", raw parameters; " in result.stdout
    config = json.loads((tmp_path / "raw" / "config.json").read_text())
    assert config["parameters"] == "raw"
    raw = load_trained(read_run(finished_run), raw_params=True).variables["params"]
    found = load_file(tmp_path / "raw" / "model.safetensors")
    np.testing.assert_array_equal(found["params/head/bias"], raw["head"]["bias"])


def test_the_page_runs_where_cifar_jax_is_not_imported(finished_run, exported):
    trained = load_trained(read_run(finished_run))
    images = make_dataset().train.images[: max(SIZES)]
    np.save(exported / "images.npy", images)
    check = f"""
        import sys
        images = np.load("images.npy")
        results = [network.call(images[:n]) for n in {SIZES}]
        np.savez("results.npz", *results, **weights)
        assert not any(name.startswith("cifar_jax") for name in sys.modules)
    """
    script = "\n".join([*SCRIPTS, re.sub(r"^ +", "", check, flags=re.M)])
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=exported,
        env=environment(exported),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "small 12 averaged ['red', 'green', 'blue']" in done.stdout
    with np.load(exported / "results.npz") as results:
        found = dict(results)
    expected = classify(trained, images)
    for i, size in enumerate(SIZES):
        result = found.pop(f"arr_{i}")
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected[:size], atol=1e-5)
    params = trained.variables["params"]
    assert found.keys() == {
        f"params/{layer}/{name}" for layer in params for name in params[layer]
    }
    for layer in params:
        for name, value in params[layer].items():
            np.testing.assert_array_equal(found[f"params/{layer}/{name}"], value)


def test_without_a_folder_or_a_run(call_command, finished_run):
    assert_one_line(call_command("export"), 2, "no folder to export to; pass --out")
    result = call_command("export", "--out=here")
    assert_one_line(result, 2, "no run in cifar10_train")
    result = call_command("export", "--out=/dev/null", "more")
    assert_one_line(result, 2, "unexpected argument 'more'")
    result = call_command("export", "--out=/dev/null")
    assert_one_line(result, 2, "--out=/dev/null cannot be used")


@pytest.mark.parametrize("name", exports.FILES)
def test_files_of_others_stay(finished_run, call_command, tmp_path, name):
    (tmp_path / name).write_text("mine")
    result = call_command("export", f"--checkpoint_dir={finished_run}", "--out=.")
    assert_one_line(result, 2, f"--out=.: {name} would be overwritten")
    assert files_of(tmp_path) == {name: b"mine"}


def test_the_folder_of_the_run_is_not_overwritten(finished_run, call_command, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    before = files_of(tmp_path)
    result = call_command("export", "--checkpoint_dir=run", "--out=run")
    assert_one_line(result, 2, "config.json would be overwritten")
    assert files_of(tmp_path) == before


def test_a_file_that_cannot_be_written(finished_run, exported, call_command, tmp_path):
    shutil.copytree(exported / "exported", tmp_path / "exported")
    (tmp_path / "exported" / "model.safetensors").unlink()
    (tmp_path / "exported" / "model.safetensors").mkdir()
    flags = (f"--checkpoint_dir={finished_run}", "--out=exported")
    result = call_command("export", *flags)
    assert_one_line(result, 1, "cannot write the export to exported: Is a directory")
