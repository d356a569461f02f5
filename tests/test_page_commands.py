"""Runs the commands in the blocks of the pages, shortened, one after the other.

Commands in running text are only parsed, by test_pages.py.
"""

import json
import pathlib
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import robustness_files
from golden.pytorch_inputs import shapes_of_vit_s, tensor
from helpers import call_in_process, make_dataset
from PIL import Image
from run_experiments import call_experiment
from safetensors.numpy import save_file
from test_own_pictures import write_pictures
from test_pages import ADDED, TEXTS, block_lines, commands

from cifar_jax import Config, Dataset, fit
from cifar_jax.data import DATASETS
from cifar_jax.data.cifar import cifar10
from cifar_jax.serving import app

pytestmark = pytest.mark.slow

# The Chinese pages of the lab have the commands of the English ones: see test_lab.py.
LAB = [name for name in sorted(TEXTS) if "lab/en/" in name]
PAGES = {name: text for name, text in TEXTS.items() if "lab/" not in name}
PAGES["docs/lab/en"] = "\n".join(TEXTS[name] for name in LAB)

# What is appended to a command, and so counts.
SHORT = {
    "cifar_jax.train": "--max_steps=2 --batch_size=8 --log_frequency=1",
    "cifar_jax.demo": "--port=0",
    "experiments.course.feature_maps": "--quick",
}
# Commands with one of these words are run elsewhere.
ELSEWHERE = (
    *(
        "experiments.course.pooling",
        "experiments.course.why_pooling",
    ),  # test_studies.py
    *("_dir=mine",),  # test_own_pictures.py
    *("--recipe=resnet18",),  # config/test_recipes.py
    *(*ADDED, "_dir=own"),  # test_extending_page.py
    *("--num_processes",),  # devices/test_parallel.py
    *("--dataset=npz",),  # data/test_npz.py
    *("--train_size", "--data_changes"),  # test_data_changes.py
    *("--study_dir",),  # studies/test_study_runs.py
    *("--flagfile",),  # test_muon_page.py
    *("wandb", "mlflow"),  # writers/test_trackers.py
    *("experiments.gpu",),  # test_gpu.py
)


def followed(text: str) -> list[list[str]]:
    """Returns the words of each command in the blocks of a page, in order."""
    # Words after three spaces are in a table of the commands.
    lines = [line for line in block_lines(text) if not re.search(r"   [^#]", line)]
    words = [found for _, *found in commands(lines, "python", "-m")]
    return [w for w in words if w[0].startswith(("cifar_jax.", "experiments."))]


COMMANDS = {name: found for name in PAGES if (found := followed(PAGES[name]))}


@pytest.fixture
def ten_classes(monkeypatch) -> Dataset:
    """Returns a small data set with the classes of CIFAR-10, which is also loaded."""
    small = make_dataset()
    names = cifar10.LABELS.class_names
    parts = small.train, small.test
    dataset = Dataset.create("cifar10", *parts, class_names=names, source="a test")
    for name in ("auto", "cifar10"):
        monkeypatch.setitem(DATASETS, name, lambda data_dir: dataset)
    monkeypatch.setitem(DATASETS, "cifar100", lambda data_dir, labels="fine": dataset)
    return dataset


@pytest.fixture
def folder(tmp_path, monkeypatch, make_once, ten_classes) -> pathlib.Path:
    """Returns a folder with the runs and the pictures that the pages assume."""

    def train(folder: pathlib.Path) -> None:
        settings = {"max_steps": 2, "batch_size": 8, "log_frequency": 1}
        config = Config(**settings, train_dir=str(folder / "run"))
        fit(config, ten_classes, log=lambda line: None)

    made = make_once("tutorial_run", train)
    for name in ("cifar10_train", "run1", "run2"):
        shutil.copytree(made / "run", tmp_path / name)
    write_pictures(tmp_path / "pictures", make_dataset(), 20)
    (tmp_path / "photos").mkdir()
    for name in ("cat.jpg", "new.jpg", "photos/dog.jpg"):
        Image.fromarray(ten_classes.test.images[0]).save(tmp_path / name)
    robustness_files.expect_few_images(monkeypatch)
    (tmp_path / "tfds").mkdir()
    robustness_files.write_cifar10_1(tmp_path / "tfds")
    robustness_files.write_folder(tmp_path / "tfds")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def write_vit_s(path: pathlib.Path) -> None:
    """Writes random weights of the ViT that the page starts from."""
    golden = np.load(pathlib.Path(__file__).parent / "golden" / "pytorch.npz")
    shapes = shapes_of_vit_s(json.loads(str(golden["timm vit shapes"])))
    save_file({name: tensor(name, shape) for name, shape in shapes.items()}, path)


def run(words: list[str], folder: pathlib.Path) -> None:
    """Runs a command in a folder; fails if the command does."""
    module, *flags = words
    flags = [flag.replace("$SCRATCH", str(folder)) for flag in flags]
    flags += SHORT.get(module, "").split()
    package, _, name = module.partition(".")
    if package == "experiments":
        call_experiment(name, *flags)
        return
    given = {flag.partition("=")[0] for flag in flags}
    if name == "train" and "--train_dir" not in given:
        flags.append("--train_dir=")
        # Flags for anything but the network are tried on one that compiles fast.
        if not given & {"--model", "--recipe", "--param_groups"}:
            flags.append("--model=small")
    done = call_in_process(name, *flags, cwd=folder)
    assert done.returncode == 0, (words, done.stderr)


def test_what_is_run_elsewhere_is_on_a_page():
    found = [" ".join(words) for page in COMMANDS.values() for words in page]
    for word in ELSEWHERE:
        assert any(word in command for command in found), word


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:keras")
@pytest.mark.parametrize("page", COMMANDS)
def test_the_commands_of_the_page_run(page, folder, monkeypatch, request):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(app, "server", lambda _: SimpleNamespace(run=lambda _: None))
    if ".weights.h5" in PAGES[page]:
        keras = request.getfixturevalue("keras").applications
        keras.ResNet50(weights=None).save_weights("resnet50.weights.h5")
        keras.MobileNet(weights=None).save_weights("mobilenet.weights.h5")
    if "=model.safetensors" in PAGES[page]:
        write_vit_s(folder / "model.safetensors")
    for words in COMMANDS[page]:
        if not any(word in " ".join(words) for word in ELSEWHERE):
            run(words, folder)
