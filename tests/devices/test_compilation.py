import os
import pathlib
import subprocess
import sys
import time
import warnings

import jax
import jax.numpy as jnp
import pytest
from helpers import environment
from jax import lax
from PIL import Image

from cifar_jax import UserError
from cifar_jax.devices import compilation, cpu


def compiled(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*-cache"))


@pytest.mark.slow
def test_on_by_default_and_private_to_the_user(digits_run, run_command, tmp_path):
    """Uses the command that compiles least, without the test suite's own cache."""
    Image.new("RGB", (32, 32)).save(tmp_path / "black.png")
    variables = environment(tmp_path) | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    variables = {
        name: value
        for name, value in variables.items()
        if not name.startswith(("JAX_COMPILATION", "JAX_PERSISTENT"))
    }
    words = ("predict", f"--checkpoint_dir={digits_run / 'run'}", "black.png")
    first = run_command(*words, env=variables)
    assert first.returncode == 0, first.stderr
    (folder,) = (tmp_path / "cache" / "cifar_jax" / "compiled").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    before = compiled(folder)
    assert any(name.startswith("jit_every-") for name in before)
    # The second start finds everything in the cache.
    assert run_command(*words, env=variables).stdout == first.stdout
    assert compiled(folder) == before


@pytest.fixture
def config(monkeypatch):
    """Records JAX settings without applying them; other tests need their cache."""
    asked = {}
    monkeypatch.setattr(
        jax.config, "update", lambda name, value: asked.update({name: value})
    )
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setattr(compilation, "_find_configured", lambda: None)
    monkeypatch.setattr(compilation.compilation_cache, "reset_cache", lambda: None)
    return asked


def test_can_be_turned_off(config):
    compilation.enable("")
    assert config == {"jax_enable_compilation_cache": False}


def test_can_be_put_elsewhere_but_not_where_others_can_write(config, tmp_path):
    folder = tmp_path / "here"
    compilation.enable(str(folder))
    assert config["jax_compilation_cache_dir"] == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    with pytest.raises(
        UserError, match="other users can write to it; pass a different"
    ):
        compilation.enable(str(folder))


def test_a_cache_set_in_the_environment_is_left_to_jax(config, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    compilation.enable(None)
    assert "jax_compilation_cache_dir" not in config


def no_home(monkeypatch, tmp_path):
    for variable in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["nobody"])


def a_file_for_a_home(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))


@pytest.mark.parametrize("spoil", [no_home, a_file_for_a_home])
def test_without_a_home_a_start_is_only_slower(
    config, monkeypatch, tmp_path, capsys, spoil
):
    spoil(monkeypatch, tmp_path)
    compilation.enable(None)
    assert "jax_compilation_cache_dir" not in config
    error = capsys.readouterr().err
    assert error.startswith("warning: the compilation cache ")
    assert error.endswith("; every start will recompile everything\n")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "directory", ["~nobody-of-this-name", "x" * 300, "/dev/null/x", "nul\0"]
)
def test_an_unusable_folder_is_a_user_error(config, directory):
    with pytest.raises(UserError, match="pass a different --compilation_cache"):
        compilation.enable(directory)


def test_importing_does_not_change_the_configuration():
    code = (
        "import jax; before = dict(jax.config.values); from cifar_jax import *;"
        "assert dict(jax.config.values) == before; assert fit;"
        "assert not jax._src.xla_bridge.backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


needs_onednn = pytest.mark.skipif(
    not cpu.has_onednn(), reason="needs jaxlib 0.12 and a CPU with bfloat16"
)


def convolve(x, kernel):
    layouts = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=layouts
    )


def program(function, *shapes, dtype=jnp.bfloat16) -> str:
    arguments = [jnp.ones(shape, dtype) for shape in shapes]
    lowered = jax.jit(function).lower(*arguments)
    return compilation.compile_lowered(lowered).as_text()


IMAGES, KERNEL, LARGE = (16, 16, 16, 32), (3, 3, 32, 32), (1024, 256)


@needs_onednn
def test_convolutions_in_bfloat16_are_left_to_onednn():
    assert "__onednn$convolution" in program(convolve, IMAGES, KERNEL)
    assert "__onednn" not in program(convolve, IMAGES, KERNEL, dtype=jnp.float32)


@needs_onednn
def test_gradients_that_onednn_is_slow_at_are_not_left_to_it():
    def gradient(x, kernel):
        return jax.grad(lambda k: convolve(x, k).astype(float).sum())(kernel)

    assert "__onednn" not in program(gradient, IMAGES, KERNEL)


@needs_onednn
def test_products_are_never_left_to_onednn():
    def both(x, kernel, a):
        return convolve(x, kernel), a.T @ a

    assert "__onednn" not in program(both, IMAGES, KERNEL, LARGE)


def test_warnings_of_the_cache_are_one_line(monkeypatch, capsys):
    others = []
    monkeypatch.setattr(
        warnings, "showwarning", lambda message, *_, **__: others.append(str(message))
    )
    compilation.warn_once()
    text = "Error {} persistent compilation cache entry for 'jit_f': "
    for message in (
        text.format("reading") + "OSError: [Errno 24] Too many open files: 'f-cache'",
        "another",
        text.format("writing") + "OSError: [Errno 28] No space left on device",
        text.format("reading") + "ValueError: damaged",
    ):
        warnings.showwarning(message, UserWarning, "file", 1)
    assert others == ["another"]
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written (OSError: [Errno 28] No space left on device)" in line


@pytest.mark.parametrize(("age", "lines"), [(0, 0), (3600, 1)])
def test_an_entry_that_another_process_may_be_writing_is_no_damage(
    monkeypatch, capsys, tmp_path, age, lines
):
    entry = tmp_path / "jit_f-cache"
    entry.touch()
    written = time.time() - age
    os.utime(entry, (written, written))
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    compilation.warn_once()
    text = "Error reading persistent compilation cache entry for 'jit_f': truncated"
    cache = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    try:
        warnings.showwarning(text, UserWarning, "file", 1)
    finally:
        jax.config.update("jax_compilation_cache_dir", cache)
    assert len(capsys.readouterr().err.splitlines()) == lines


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["garbage", "truncated", "folders"])
def test_a_damaged_cache_is_one_line(run_command, tmp_path, damage):
    Image.new("RGB", (32, 32)).save(tmp_path / "picture.png")
    words = ("predict", "picture.png", "--compilation_cache=cache")
    options = {"env": environment(tmp_path) | {"JAX_COMPILATION_CACHE_DIR": ""}}
    assert run_command(*words, **options).returncode == 0
    files = list((tmp_path / "cache").glob("*-cache"))
    assert len(files) > 1
    for file in files:
        contents = file.read_bytes()
        file.unlink()
        if damage == "folders":
            file.mkdir()
        else:
            file.write_bytes(b"?" if damage == "garbage" else contents[:-9])
        os.utime(file, (0, 0))
    result = run_command(*words, **options)
    assert result.returncode == 0
    warning, note = result.stderr.splitlines()
    assert note.startswith("the bundled network, ")
    assert warning.startswith("warning: the compilation cache cache cannot be read (")
    assert "delete it" in warning
