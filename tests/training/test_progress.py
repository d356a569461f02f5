import re

import pytest

from cifar_jax.training.progress import Pace, ProgressBar, Stopwatch, log_line


def test_log_line_matches_the_tutorial():
    line = log_line(0, 4.6784, 128, 0.489)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}: step 0, loss = 4\.68 "
        r"\(261\.8 examples/sec; 0\.489 sec/batch\)",
        line,
    )


@pytest.fixture
def clock(monkeypatch):
    """Replaces the clock; returns a function that advances it.

    Waiting for a result advances it too, by the result's value in seconds.
    """
    now = [100.0]
    monkeypatch.setattr("cifar_jax.training.progress.time.perf_counter", lambda: now[0])

    def work(seconds):
        now[0] += seconds

    monkeypatch.setattr("cifar_jax.training.progress.jax.block_until_ready", work)
    return work


def test_time_runs_until_results_are_ready_even_if_read_late(clock):
    with Stopwatch() as watch:
        first = watch.watch(2.0)
        assert first.result() == 102
        second = watch.watch(3.0)
        assert second.result() == 105
        # Both are read when both are ready; each counts its own time.
        watch.count(first)
        assert watch.seconds == 2
        watch.count(second)
        assert watch.seconds == 5


def test_saves_do_not_count(clock):
    with Stopwatch() as watch:
        pace = Pace(watch, 0)
        watch.count(watch.watch(2.0))
        assert pace(10) == 0.2
        clock(60.0)
        watch.skip()
        watch.count(watch.watch(4.0))
        assert pace(30) == 0.2


def test_the_bar_shows_loss_and_speed_below_the_messages(capsys):
    with ProgressBar(max_steps=100, batch_size=32) as bar:
        bar.log("compiled")
        bar.on_step(50, 2.345, 0.1)
        bar.log("saved")
        bar.on_step(60, 1.25, 0.2)
    printed = capsys.readouterr()
    assert printed.out.split() == ["compiled", "saved"]
    assert "51/100" in printed.err
    assert "61/100" in printed.err
    assert "loss = 1.25, 160.0 examples/sec" in printed.err
