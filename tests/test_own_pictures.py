"""Follows the README from a folder of pictures to a prediction."""

import json
import pathlib
import re
import shlex

import pytest
from helpers import make_dataset
from PIL import Image

from cifar_jax import Dataset

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


def write_pictures(folder: pathlib.Path, dataset: Dataset, count: int) -> None:
    """Saves training images as PNG and JPEG files in folders of their classes."""
    for label, name in enumerate(dataset.class_names):
        (folder / name).mkdir(parents=True)
        (chosen,) = (dataset.train.labels == label).nonzero()
        for i in chosen[:count]:
            image = Image.fromarray(dataset.train.images[i])
            image.save(folder / name / f"{i:05}.{'png' if i % 2 else 'jpg'}")


def commands(max_steps: int) -> list[list[str]]:
    """Returns the README's three commands, the first with a limit of its steps."""
    [block] = re.findall(
        r"\n\n((?:    .*\n)*    .*--dataset=folder.*\n(?:    .*\n)*)", README
    )
    lines = [shlex.split(line) for line in block.splitlines()]
    assert [line[:2] for line in lines] == [["python", "-m"]] * 3
    train, *others = (line[2:] for line in lines)
    return [[*train, f"--max_steps={max_steps}"], *others]


def follow_readme(run, folder, max_steps):
    """Runs the commands; returns what each printed."""
    printed = []
    for module, *arguments in commands(max_steps):
        result = run(module.removeprefix("cifar_jax."), *arguments, cwd=folder)
        assert result.returncode == 0, result.stderr
        printed.append(result.stdout)
    return printed


@pytest.mark.slow
def test_the_commands_of_the_readme_work_on_a_folder_of_pictures(
    call_command, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_pictures(tmp_path / "pictures", make_dataset(), 20)
    first = next((tmp_path / "pictures").rglob("*.jpg"))
    first.rename(tmp_path / "new.jpg")
    trained, evaluated, predicted = follow_readme(call_command, tmp_path, max_steps=2)
    assert "1 in 5 of each class drawn for testing, seed 0" in trained
    assert "precision @ 1 = " in evaluated
    names = make_dataset().class_names
    assert {line.split()[0] for line in predicted.splitlines()[1:]} == set(names)
    config = json.loads((tmp_path / "mine" / "config.json").read_text())
    record = json.loads((tmp_path / "report" / "report.json").read_text())
    assert config["data"]["class_names"] == sorted(names) == record["class_names"]
    assert config["data"]["image_shape"] == [32, 32, 3]
    assert config["data"]["fingerprint"] == record["data_fingerprint"]
