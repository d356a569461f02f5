"""Tests the measurements that wait for a GPU, on a CPU and at a tiny size."""

import dataclasses
import functools
import time

import jax
import numpy as np
import pytest
from run_experiments import ROOT, call, call_experiment

from cifar_jax import (
    Batch,
    Config,
    build_program,
    evaluate,
    fit,
    init_state,
    load_data,
    train_step,
)
from experiments.gpu import __main__ as kit
from experiments.gpu import measure
from experiments.gpu.figures import FIGURES, Measurement, Precision
from experiments.gpu.results import Results
from experiments.harness import common

SETTINGS = {"model": "small", "max_steps": 3, "batch_size": 8}
SMALL = Precision("small", SETTINGS, minutes=0, seeds=2, dataset="digits")
TRAINED = [figure for figure in FIGURES if isinstance(figure, Precision)]
COMMAND = Measurement("bytes", "devices.allreduce", 0, "")


def test_a_run_is_that_of_fit_and_is_not_repeated(tmp_path, capsys):
    ends = time.time() + 600
    assert measure.measure([SMALL], tmp_path, "", ends) == []
    first, second = Results(tmp_path).of(SMALL)
    assert (first["seed"], second["seed"]) == (0, 1)
    dataset = load_data("digits")
    config = Config(**SETTINGS, seed=1, train_dir=None)
    found = evaluate(fit(config, dataset).trained, dataset.test)
    assert second["precision"] == found
    assert second["curve"][-1] == [3, found]
    assert "small, seed 1: step 3 of 3" in capsys.readouterr().out
    before = (tmp_path / "gpu.json").read_bytes()
    assert measure.measure([SMALL], tmp_path, "", ends) == []
    assert (tmp_path / "gpu.json").read_bytes() == before


def test_a_result_counts_while_the_settings_are_the_same(tmp_path):
    results = Results(tmp_path)
    results.add(SMALL, 0, {"precision": 0.5, "seconds": 90.0})
    assert Results(tmp_path).missing(SMALL) == [1]
    assert Results(tmp_path).seconds(SMALL) == 90
    for change in ({"batch_size": 9}, {"recipe": "sprint"}):
        other = dataclasses.replace(SMALL, settings=SETTINGS | change)
        assert Results(tmp_path).missing(other) == [0, 1]
    elsewhere = dataclasses.replace(SMALL, dataset="cifar10")
    assert Results(tmp_path).missing(elsewhere) == [0, 1]
    log = dataclasses.replace(SMALL, settings=SETTINGS | {"log_frequency": 1})
    assert Results(tmp_path).missing(log) == [1]
    row = Results(tmp_path).table([SMALL]).split("\n")[-1]
    assert [cell.strip() for cell in row.split("|")][3:7] == [
        "1 of 2",
        "0.5000 (n 1)",
        "-",
        "2",
    ]


def test_without_time_nothing_starts_and_a_run_that_is_late_is_dropped(tmp_path):
    long = dataclasses.replace(SMALL, minutes=2)
    assert measure.measure([long], tmp_path, "", time.time() + 60) == []
    assert measure.measure([COMMAND], tmp_path, "", time.time() - 1) == []
    late = dataclasses.replace(SMALL, settings=SETTINGS | {"max_steps": 100_000})
    # Starting takes longer than this.
    assert measure.measure([late], tmp_path, "", time.time() + 0.1) == []
    assert not (tmp_path / "gpu.json").exists()


def test_a_failure_does_not_stop_the_others(tmp_path):
    ends = time.time() + 600
    diverges = dataclasses.replace(
        SMALL, name="bad", settings=SETTINGS | {"learning_rate": 1e35}
    )
    (message,) = measure.measure([diverges, SMALL], tmp_path, "", ends)
    assert message.startswith("bad, seed 0: the logits")
    broken = Measurement("broken", "devices.allreduce --unknown", 0, "")
    (message,) = measure.measure([broken, COMMAND], tmp_path, "", ends)
    assert message.startswith("broken, seed 0: ")
    results = Results(tmp_path)
    assert [len(results.of(f)) for f in (diverges, SMALL, broken, COMMAND)] == [
        *(0, 2, 0, 1)
    ]
    assert results.of(COMMAND)[0]["result"]


def test_the_command_prints_what_is_open(tmp_path):
    text = call_experiment("gpu", "--minutes=0", f"--json={tmp_path}")
    assert all(f"| {figure.name} " in text for figure in FIGURES)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "pass --json=DIR"),
        (("--json=DIR",), "JAX finds no GPU here; --dry_run"),
        (("--json=WRONG",), "is not a result of this experiment"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, flags, message, capsys, monkeypatch):
    monkeypatch.setattr(kit.machine, "isolated", lambda *_: "cpu: cpu")
    (tmp_path / "WRONG").mkdir()
    (tmp_path / "WRONG" / "gpu.json").write_text('{"records": [1]}')
    with pytest.raises(SystemExit, match="2"):
        call_experiment("gpu", *(f.replace("=", f"={tmp_path}/") for f in flags))
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_page_shows_what_is_open():
    table = Results(ROOT / "experiments" / "gpu" / "results").table(FIGURES)
    assert table in (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("figure", TRAINED, ids=lambda figure: figure.name)
def test_every_figure_has_a_step(figure):
    config, classes = figure.config(0), 100 if figure.dataset == "cifar100" else 10
    program = build_program(config, classes)
    images = np.zeros((5000, 32, 32, 3), np.uint8)
    state = jax.eval_shape(lambda: init_state(program, jax.random.key(0), images))
    batch = Batch.from_arrays(images[:8], np.arange(8))
    after, metrics = jax.eval_shape(
        functools.partial(train_step, program), state, batch
    )
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert metrics["total_loss"].shape == ()


@pytest.mark.slow
def test_a_dry_run_measures_each_kind_and_is_continued(tmp_path, monkeypatch):
    by_name = {figure.name: figure for figure in FIGURES}
    names = "cuda-convnet, 11%", "Airbench as one program", "the tutorial, to the end"
    figures = [by_name[name] for name in names]
    monkeypatch.setattr(kit, "FIGURES", figures)
    flags = ("--minutes=30", "--dry_run", f"--json={tmp_path / 'kept'}")
    run = functools.partial(common.run, kit.main, kit.define_flags)
    text = call(run, *flags)
    tiny = [figure.tiny() for figure in figures]
    results = Results(tmp_path / "kept")
    assert [results.missing(figure) for figure in tiny] == [[]] * len(tiny)
    assert text.endswith(f"{results.table(tiny)}\n")
    before = results.path.read_bytes()
    assert len(before) < 40_000
    call(run, *flags)
    assert results.path.read_bytes() == before
