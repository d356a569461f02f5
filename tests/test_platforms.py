"""Tests the commands without POSIX modules, SIGTERM and array_record, as on Windows."""

import subprocess
import sys

import pytest
from helpers import DIGITS, environment
from PIL import Image

PRELUDE = """
import runpy, signal, sys

for name in ("fcntl", "resource", "pwd", "grp", "array_record"):
    sys.modules[name] = None
set_handler = signal.signal

def signal_(signum, handler):
    if signum == signal.SIGTERM:
        raise ValueError("invalid signal value")
    return set_handler(signum, handler)

signal.signal = signal_
sys.argv = sys.argv[1:]
runpy.run_module(f"cifar_jax.{sys.argv[0]}", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("train", *DIGITS, "--max_steps=2"), "saved run/checkpoints/2"),
        (("eval", "--checkpoint_dir={run}", "--eval_dir=here"), "precision @ 1 = "),
        (("predict", "--checkpoint_dir={run}", "red.png"), "red.png"),
        (("compare", "{run}", "--plot=here.png"), "minutes trained"),
        (("export", "--checkpoint_dir={run}", "--out=here"), "exported to here"),
    ],
    ids=["train", "eval", "predict", "compare", "export"],
)
def test_the_commands_run(digits_run, tmp_path, words, answer):
    Image.new("RGB", (50, 40), "red").save(tmp_path / "red.png")
    words = [word.format(run=digits_run / "run") for word in words]
    done = subprocess.run(
        [sys.executable, "-W", "error:::cifar_jax", "-c", PRELUDE, *words],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert answer in done.stdout
