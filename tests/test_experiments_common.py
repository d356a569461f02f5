"""Tests the code shared by all experiments; other tests run the experiments."""

import importlib
import json
import os
import re
import resource
import signal
import subprocess
import sys

import pytest
from absl import flags
from matplotlib.figure import Figure
from run_experiments import ROOT, call

from cifar_jax import RunError, UserError
from cifar_jax.errors import Stopped
from experiments.harness import common, machine, output
from experiments.harness.children import ChildFailedError

MODULES = [
    f"experiments.{path.parent.name}.{path.stem}"
    for path in sorted((ROOT / "experiments").glob("*/*.py"))
]


def test_all_experiments_can_be_imported_together_and_on_windows(monkeypatch):
    for name in MODULES:
        importlib.import_module(name)
    # Import them again, with all their dependencies already imported.
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name)
        room, _, module = name.rpartition(".")
        monkeypatch.delattr(sys.modules[room], module)
    defined: list[str] = []
    monkeypatch.setattr(
        flags.FlagValues, "__setitem__", lambda self, name, flag: defined.append(name)
    )
    for name in ("fcntl", "resource", "pwd", "grp"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("sched_getaffinity", "sched_setaffinity", "wait4", "getuid"):
        monkeypatch.delattr(os, name)
    for name in MODULES:
        importlib.import_module(name)
    assert defined == []


@pytest.mark.parametrize(
    ("device", "cores", "named"),
    [
        ("cpu: cpu", 1, "AMD EPYC, 1 core"),
        ("cpu: cpu", 2, "AMD EPYC, 2 cores"),
        ("gpu: NVIDIA H100", 16, "NVIDIA H100"),
    ],
)
def test_the_name_of_a_machine_is_what_computed(device, cores, named):
    facts = {"device": device, "processor": "AMD EPYC", "cores": cores}
    assert machine.name(facts) == named


@pytest.mark.parametrize(
    ("name", "own"),
    [("devices.allreduce", {"tflops"}), ("course.augmentation", {"seeds"})],
)
def test_help_lists_the_flags_of_an_experiment(name, own):
    done = subprocess.run(
        [sys.executable, "-m", f"experiments.{name}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    listed = set(re.findall(r"^  --(\w+): .", done.stdout, re.MULTILINE))
    assert listed >= own | {"dataset", "data_dir", "json"}
    assert "logtostderr" not in listed


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("--x=1 is wrong"), 2, "--x=1 is wrong"),
        (RunError("the disk is full"), 1, "the disk is full"),
        (Stopped(signal.SIGTERM, "before step 3"), 143, "stopped by SIGTERM before"),
        (KeyboardInterrupt(), 130, "stopped by SIGINT"),
        (ChildFailedError("exit status 2"), 1, "a child process failed: exit status"),
    ],
)
def test_errors_end_an_experiment_as_they_end_a_command(error, status, line, capsys):
    def main(argv: list[str]) -> None:
        raise error

    with pytest.raises(SystemExit) as exit_:
        call(lambda: common.run(main, lambda: None))
    assert exit_.value.code == status
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {line}")


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("--modl=x", "Unknown command line flag 'modl'"),
        ("--nojson", "Unknown command line flag 'nojson'"),
        ("--nofull=3", "--nofull=3 does not take an argument"),
        ("--seeds=x", "flag --seeds=x: invalid literal"),
        ("--seeds=0", "flag --seeds=0: 0 is not a positive integer"),
        ("seeds", "unknown argument 'seeds'; flags begin with --"),
    ],
)
def test_wrong_flags_end_an_experiment_in_one_line(word, line, capsys):
    def define_flags() -> None:
        flags.DEFINE_integer("seeds", 1, "Number of seeds.", lower_bound=1)
        flags.DEFINE_boolean("full", False, "Run all of it.")

    with pytest.raises(SystemExit) as exit_:
        call(lambda: common.run(lambda argv: None, define_flags), word)
    assert exit_.value.code == 2
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {line}")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("r.json", lambda path: output.write({"n": list(range(9999))}, path)),
        ("r.csv", lambda path: output.write_rows([{"n": "x" * 9999}], path)),
        ("r.png", lambda path: output.write_figure(Figure(), path)),
    ],
)
def test_results_are_whole_or_as_they_were(tmp_path, name, write):
    path = tmp_path / "results" / name
    path.parent.mkdir()
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        with pytest.raises(OSError, match="too large"):
            write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old"
    write(path)
    assert path.stat().st_size > 500


def test_rows_and_records_can_be_read_again(tmp_path):
    output.write({"a": 1}, tmp_path / "new" / "r.json")
    assert json.loads((tmp_path / "new" / "r.json").read_text()) == {"a": 1}
    output.write_rows([{"a": 1, "b": 2}], tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_text() == "a,b\n1,2\n"
