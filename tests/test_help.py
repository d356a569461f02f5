"""Tests what help(), signatures and type checkers tell about the public names."""

import dataclasses
import inspect
import pathlib
import pydoc
import re
import subprocess
import sys

import pytest

import cifar_jax
from cifar_jax import Config

ROOT = pathlib.Path(__file__).parents[1]


def test_help_begins_with_one_screen_of_all_names():
    text = cifar_jax.__doc__
    assert len(text.splitlines()) <= 24
    _, _, listed = text.partition("    settings ")
    names = re.findall(r"\w+", listed.partition("\n\n")[0])
    groups = {"data", "training", "runs", "networks", "pure", "parts", "your", "own"}
    found = [name for name in names if name not in groups | {"errors"}]
    assert sorted(found) == sorted({*cifar_jax.__all__} - {"__version__"})


def test_the_signature_of_config_shows_the_defaults():
    parameters = inspect.signature(Config).parameters
    config = Config()
    for field in dataclasses.fields(Config):
        assert repr(parameters[field.name].default) == repr(getattr(config, field.name))
    assert "batch_size: int = 128, " in str(inspect.signature(Config))


def test_help_of_config_explains_every_setting_with_its_default():
    text = pydoc.plain(pydoc.render_doc(Config))
    assert "<object object" not in text
    words = " ".join(text.replace("|", " ").split())
    for field in dataclasses.fields(Config):
        meaning = " ".join(field.metadata["help"].split())
        default = field.metadata["default"]
        assert f"{field.name}: {meaning} Default: {default!r}." in words
    assert "save_interval_secs: Seconds between checkpoints. Default: 600.0." in words
    assert max(map(len, Config.__doc__.splitlines())) <= 88


@pytest.mark.slow
def test_mypy_finds_a_misspelled_setting(tmp_path):
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(
        "from cifar_jax import Config\n"
        "Config(batch_size=64, train_dir=None)\n"
        "Config(batchsize=64)\n"
        "Config(batch_size='many')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports=silent", script.name],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("script.py")]
    first, second = lines
    assert first.startswith('script.py:3: error: Unexpected keyword argument "batchsi')
    assert second.startswith(
        'script.py:4: error: Argument "batch_size" to "Config" has'
    )


def test_the_package_says_that_it_has_types():
    assert (ROOT / "cifar_jax" / "py.typed").read_text() == ""
