"""Tests the predict command with weights of exports and of Keras."""

import json
import shutil

import numpy as np
import pytest
from golden.keras_weights import KERAS_NAMES
from helpers import assert_one_line, call_in_process
from keras_files import Layer, write
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from cifar_jax import (
    classify,
    load_data,
    load_trained,
    models,
    predict,
    read_picture,
    read_run,
)
from cifar_jax.models import variables
from cifar_jax.models.keras import imagenet


@pytest.fixture
def pictures(tmp_path):
    """Saves a digit as a file in the working directory of the commands."""
    images = load_data("digits").test.images[:1]
    Image.fromarray(images[0]).save(tmp_path / "0.png")
    return images


@pytest.fixture
def flag(digits_run):
    return f"--checkpoint_dir={digits_run / 'run'}"


@pytest.fixture
def export(flag, make_once, tmp_path):
    """Returns a copy of an export of the run in `out`, which tests may change."""

    def make(folder):
        done = call_in_process("export", flag, "--out=out", cwd=folder)
        assert done.returncode == 0, done.stderr

    return shutil.copytree(make_once("export", make) / "out", tmp_path / "out")


def test_with_the_weights_of_an_export(digits_run, export, pictures, call_command):
    weights = "--weights=out/model.safetensors"
    result = call_command("predict", weights, "--json", "0.png")
    assert result.returncode == 0, result.stderr
    assert result.stderr == "the network of out/model.safetensors\n"
    (record,) = json.loads(result.stdout)
    expected = classify(load_trained(read_run(digits_run / "run")), pictures[:1])[0]
    for label, probability in record["probabilities"].items():
        assert probability == pytest.approx(expected[int(label)], rel=1e-6)
    result = call_command("predict", weights, "--model=vgg16", "0.png")
    assert_one_line(result, 2, "knows its own network; omit --model")


@pytest.mark.parametrize("words", ["--weights=out", "--checkpoint_dir=out"])
def test_with_the_folder_of_an_export(words, export, pictures, call_command):
    expected = call_command("predict", "--weights=out/model.safetensors", "0.png")
    result = call_command("predict", words, "0.png")
    assert (result.returncode, result.stdout) == (0, expected.stdout)
    assert result.stderr == "the network of out/model.safetensors\n"
    result = call_command("predict", words, "--best", "0.png")
    assert_one_line(result, 2, "--best applies to runs")
    result = call_command("eval", "--checkpoint_dir=out")
    assert_one_line(result, 2, "out is an export, not a run")


def test_a_run_is_no_weights(digits_run, call_command):
    result = call_command("predict", f"--weights={digits_run / 'run'}", "0.png")
    assert_one_line(result, 2, "is the folder of a run; pass it as --checkpoint_dir")


def test_numbers_of_an_export_that_are_not_finite(export, pictures, call_command):
    path = export / "model.safetensors"
    for number, message in (
        (np.nan, "non-finite values in params/conv1/kernel"),
        (1e38, "the network's outputs for 0.png are not finite"),
    ):
        arrays = load_file(path)
        with safe_open(path, "np") as file:
            description = json.loads(file.metadata()["config"])
        description.pop("digest", None)
        metadata = {"config": json.dumps(description)}
        arrays["params/conv1/kernel"][:] = number
        save_file(arrays, path, metadata)
        for more in ((), ("--json",)):
            result = call_command("predict", "--weights=out", "0.png", *more)
            assert_one_line(result, 2, message)
            assert result.stdout == ""
        arrays["params/conv1/kernel"][:] = 0
        save_file(arrays, path, metadata)


def test_a_damaged_export_is_refused(export, pictures, call_command):
    path = export / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    path.with_name("config.json").unlink()
    training = ("--dataset=digits", "--train_dir=new", "--init_from=out")
    for words in (
        ("predict", "--weights=out", "0.png"),
        ("predict", "--checkpoint_dir=out", "0.png"),
        ("demo", f"--weights={path}"),
        ("train", *training),
    ):
        result = call_command(*words)
        assert_one_line(result, 2, "model.safetensors: its digest does not match")


@pytest.mark.parametrize("ending", [".safetensors", ".h5", ".keras", ""])
def test_names_that_no_file_can_have(ending, call_command):
    name = "x" * 300 + ending
    result = call_command("predict", "--model=vgg16", f"--weights={name}", "0.png")
    assert_one_line(result, 2, name)
    training = ("--dataset=digits", "--train_dir=new", f"--init_from={name}")
    assert_one_line(call_command("train", *training), 2, f"{name} does not exist")


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory):
    """Returns a file of MobileNet's weights that is sure of class 281."""
    names = {"scale": "gamma", "mean": "moving_mean", "var": "moving_variance"}
    weights: dict[str, dict[str, np.ndarray]] = {}
    for name, shape in variables.shapes(models.create("mobilenet"), 224).items():
        layer, leaf = name.split("/")
        if "_dw_" in layer and leaf == "kernel":
            shape = (3, 3, shape[-1], 1)
        if leaf == "bias" and layer != "conv_preds":
            leaf = "beta"
        value = np.zeros(shape, np.float32)
        weights.setdefault(layer, {})[names.get(leaf, leaf)] = value
    weights["conv_preds"]["bias"][281] = 100
    layers = [Layer(layer, "", own) for layer, own in weights.items()]
    return write(tmp_path_factory.mktemp("keras") / "mobilenet.h5", layers)


def test_with_weights_of_keras(mobilenet, tmp_path, call_command):
    Image.new("RGB", (300, 400), "green").save(tmp_path / "cat.jpg")
    flags = ("--model=mobilenet", f"--weights={mobilenet}", "cat.jpg")
    result = call_command("predict", *flags)
    assert result.returncode == 0, result.stderr
    first, second, *_ = result.stdout.splitlines()
    assert first == "cat.jpg"
    assert second.split()[:2] == ["tabby", "100.00%"]
    assert result.stderr == f"mobilenet with the weights of {mobilenet}\n"


def test_pictures_for_keras_are_stretched(
    mobilenet, tmp_path, call_command, monkeypatch
):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cat.png")
    seen = []

    def classified(network, images):
        seen.extend(images)
        return np.full((len(images), 1000), 1e-3, np.float32)

    monkeypatch.setattr(predict, "classify", classified)
    words = ("--model=mobilenet", f"--weights={mobilenet}", "cat.png")
    for flags, resize in (([], "stretch"), (["--resize=crop"], "crop")):
        assert call_command("predict", *words, *flags).returncode == 0
        expected = read_picture(tmp_path / "cat.png", (224, 224, 3), resize=resize)
        np.testing.assert_array_equal(seen.pop(), expected)


def test_pictures_of_runs_are_cropped(pictures, flag, call_command, monkeypatch):
    seen = []
    monkeypatch.setattr(
        predict.pictures,
        "read_picture",
        lambda file, shape, value_range, resize: (
            seen.append(resize) or np.zeros(shape, np.uint8)
        ),
    )
    assert call_command("predict", flag, "0.png").returncode == 0
    assert call_command("predict", flag, "0.png", "--resize=stretch").returncode == 0
    assert seen == ["crop", "stretch"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model=vgg16"], "--model=vgg16 needs --weights"),
        (["--weights=w.h5"], "--weights=w.h5 needs --model"),
        (["--model=vgg16", "--weights=w.h5"], "there is no file w.h5"),
        (
            ["--model=vgg16", "--weights=w.h5", "--raw_params"],
            "--raw_params applies to runs",
        ),
        (["--model=tutorial", "--weights=w.h5"], "tutorial"),
    ],
)
def test_wrong_flags_for_weights_of_keras(flags, message, call_command):
    assert_one_line(call_command("predict", *flags, "cat.jpg"), 2, message)


def test_weights_of_another_network(mobilenet, call_command):
    flags = ("--model=resnet50", f"--weights={mobilenet}", "cat.jpg")
    assert_one_line(
        call_command("predict", *flags), 2, "its layers are those of mobilenet"
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:keras")
@pytest.mark.parametrize("network", ["mobilenet", "resnet50"])
def test_as_keras_predicts(keras, network, tmp_path, run_command):
    keras.utils.set_random_seed(0)
    theirs = getattr(keras.applications, KERAS_NAMES[network])(weights=None)
    path = tmp_path / f"{network}.keras"
    theirs.save(path)
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(picture).resize((600, 800)).save(tmp_path / "cat.png")
    flags = (f"--model={network}", f"--weights={path}", "--json", "cat.png")
    (record,) = json.loads(run_command("predict", *flags).stdout)
    assert (record["file"], record["weights"]) == ("cat.png", str(path))
    size = theirs.input_shape[1:3]
    pixels = np.asarray(keras.utils.load_img(tmp_path / "cat.png", target_size=size))
    prepare = getattr(keras.applications, network).preprocess_input
    expected = theirs.predict(prepare(pixels[None].astype(np.float32)), verbose=0)[0]
    found = record["probabilities"]
    names = imagenet.class_names(1000)
    assert next(iter(found)) == names[expected.argmax()]
    np.testing.assert_allclose([found[name] for name in names], expected, rtol=1e-4)
