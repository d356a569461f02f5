import io
import os
import re
import sys

import jax.numpy as jnp
import pytest

from cifar_jax import Config, build_program
from cifar_jax.training.hooks import bar
from cifar_jax.training.hooks.bar import ProgressBar
from cifar_jax.training.hooks.log import LogLines, log_line
from cifar_jax.training.loop import Moment
from cifar_jax.writers import Writers, jsonl


def moment(step, seconds, loss=2.345, first=0, **metrics):
    """Returns what hooks read of a moment."""
    metrics = {"total_loss": jnp.float32(loss)} | metrics
    return Moment(first, step, None, metrics, seconds, network=None)


def test_log_line_matches_the_tutorial():
    line = log_line(0, 4.6784, 128, 0.489)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}: step 0, loss = 4\.68 "
        r"\(261\.8 examples/sec; 0\.489 sec/batch\)",
        line,
    )


@pytest.mark.wrong_types
def test_a_line_has_the_speed_since_the_last_one_and_the_metrics(tmp_path):
    config = Config(log_frequency=10, batch_size=32, metrics="grad_norm")
    lines: list[str] = []
    with Writers("jsonl", tmp_path) as writers:
        hook = LogLines(config, build_program(config, 10), 0, writers, lines.append)
        hook(moment(1, 0.5, grad_norm=jnp.float32(0.25)))
        hook(moment(6, 1.0, first=1))
        hook(moment(11, 1.5, first=6, grad_norm=jnp.float32(0.125)))
    assert [hook.due(step) for step in (0, 1, 10, 11)] == [1, 11, 11, 21]
    first, second = (line.split(": ", 1)[1] for line in lines)
    assert first.endswith("(64.0 examples/sec; 0.500 sec/batch), grad_norm = 0.25")
    assert second.startswith("step 10, loss = 2.35 (320.0 examples/sec; 0.100 sec/")
    assert second.endswith("grad_norm = 0.125")
    kept = jsonl.read_training(tmp_path / "log.jsonl")
    names = ("step", "total_loss_raw", "examples/sec", "grad_norm")
    assert [[one[name] for name in names] for one in kept] == [
        [0, pytest.approx(2.345), 64.0, 0.25],
        [10, pytest.approx(2.345), 320.0, 0.125],
    ]


@pytest.mark.wrong_types
def test_the_bar_shows_loss_and_speed_below_the_messages(capsys):
    with ProgressBar(max_steps=100, batch_size=32) as shown:
        shown.log("compiled")
        shown(moment(51, 0.1, first=50))
        shown.log("saved")
        shown(moment(61, 2.1, 1.25, first=51))
    printed = capsys.readouterr()
    assert printed.out.split() == ["compiled", "saved"]
    assert "51/100" in printed.err
    assert "61/100" in printed.err
    assert "loss = 1.25, 160.0 examples/sec" in printed.err


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(
    ("columns", "fits"), [(0, False), (60, False), (89, False), (90, True), (200, True)]
)
def test_a_bar_needs_a_wide_terminal(columns, fits, monkeypatch):
    import pty
    import termios

    main, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, columns))
    with os.fdopen(terminal, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        assert bar.fits() == fits
    os.close(main)


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_a_bar_needs_a_terminal(stream, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    assert not bar.fits()
