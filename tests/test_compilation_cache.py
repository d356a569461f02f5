import os
import pathlib
import subprocess
import sys

import pytest
from helpers import environment
from PIL import Image


@pytest.fixture
def predict(digits_run, run_command, tmp_path):
    """Starts the command that compiles least, without the tests' own cache."""
    Image.new("RGB", (32, 32)).save(tmp_path / "black.png")
    variables = environment(tmp_path) | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    variables = {k: v for k, v in variables.items() if not k.startswith("JAX_")}

    def start(*flags: str) -> subprocess.CompletedProcess:
        words = ("predict", f"--checkpoint_dir={digits_run / 'run'}", "black.png")
        return run_command(*words, *flags, env=variables)

    return start


def compiled(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*-cache"))


def test_on_by_default_for_this_user_alone(predict, tmp_path):
    first = predict()
    assert first.returncode == 0, first.stderr
    (folder,) = (tmp_path / "cache" / "cifar_jax" / "compiled").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    before = compiled(folder)
    assert any("eval_step" in name for name in before)
    # The second start finds everything there.
    assert predict().stdout == first.stdout
    assert compiled(folder) == before


def test_can_be_turned_off(predict, tmp_path):
    off = predict("--compilation_cache=")
    assert off.returncode == 0, off.stderr
    assert not (tmp_path / "cache").exists()


def test_can_be_put_elsewhere_but_not_where_others_can_write(predict, tmp_path):
    assert predict("--compilation_cache=here").returncode == 0
    assert compiled(tmp_path / "here")
    (tmp_path / "here").chmod(0o777)
    refused = predict("--compilation_cache=here")
    assert refused.returncode == 2
    assert "other users can write to it" in refused.stderr


def test_without_a_home_a_start_is_only_slower(predict, tmp_path):
    (tmp_path / "cache").write_text("a file")
    result = predict()
    assert result.returncode == 0
    assert "every start will compile anew" in result.stderr


def test_importing_touches_no_configuration():
    code = (
        "import jax; before = dict(jax.config.values); import cifar_jax;"
        "assert dict(jax.config.values) == before;"
        "assert not jax._src.xla_bridge.backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
