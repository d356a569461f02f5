"""Runs whole studies of a few steps on the stand-in data, as commands."""

import contextlib
import csv
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import assert_one_line, environment, read_until

from cifar_jax.studies.side_by_side import available_cores

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture
def start(tmp_path):
    """Starts a study in the folder `study`; kills it and its runs at the end."""
    processes = []

    def call(max_steps, *arguments, folder="study"):
        words = ["--dataset=digits", "--model=lenet", "--batch_size=8"]
        words += ["--log_frequency=1", f"--max_steps={max_steps}"]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "cifar_jax.study"),
                *(f"--study_dir={folder}", *words, *arguments),
            ],
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield call
    for process in processes:
        process.kill()
        process.communicate()
    for lock in tmp_path.glob("study/*/*/.lock"):
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.kill(int(lock.read_text()), signal.SIGKILL)


def finish(process):
    """Waits for a process; returns its status, output and errors."""
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess([], process.returncode, out, err)


def wait_for_step(log: pathlib.Path, process) -> None:
    deadline = time.monotonic() + 300
    while not (log.exists() and "step 10," in log.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def table(folder):
    """Returns the lines of a study's table, one for each run."""
    return list(csv.DictReader((folder / "study.csv").read_text().splitlines()))


def test_failed_and_diverged_runs_do_not_stop_the_others(start, tmp_path):
    grid = ("--vary=learning_rate=1e30,0.1", "--vary=train_size=7,500")
    beside = min(2, len(available_cores()))
    first = finish(start("4", *grid, f"--at_a_time={beside}"))
    assert_one_line(first, 1, "2 runs failed; their log.txt has the reason; rerun the")
    found = json.loads((tmp_path / "study" / "study.json").read_text())
    best, *others = found["settings tried"]
    assert best["setting"] == {"learning_rate": "0.1", "train_size": "500"}
    reasons = sorted(other["others"]["0"] for other in others)
    assert reasons[0].startswith("diverged: training diverged at step")
    assert all("batch_size=8 is larger" in reason for reason in reasons[1:])
    again = finish(start("4", *grid))
    assert again.returncode == 1
    assert again.stdout.count(": starting, ") == 2
    assert first.stdout.split("\n\n")[1:] == again.stdout.split("\n\n")[1:]


def test_two_processes_share_a_study_that_is_then_extended(start, tmp_path):
    vary = ("--vary=learning_rate=log(0.01, 0.2)", "--sampler=random", "--seeds=2")
    first, second = map(finish, [start("4", *vary, "--trials=2") for _ in range(2)])
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stdout.split("\n\n")[1:] == second.stdout.split("\n\n")[1:]
    assert (first.stdout + second.stdout).count(": starting, ") == 4
    few = table(tmp_path / "study")
    assert [line["seed"] for line in few] == ["0", "1"] * 2
    more = finish(start("4", *vary, "--trials=3"))
    assert more.returncode == 0
    assert more.stdout.count(": starting, ") == 2
    assert table(tmp_path / "study")[:4] == few
    other = finish(start("6", *vary, "--trials=3"))
    assert_one_line(other, 2, "holds another study", "or another --study_dir")
    page = (ROOT / "docs" / "studies.md").read_text()
    (script,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    names: dict[str, object] = {}
    exec(script.replace("search/", f"{tmp_path}/study/"), names)
    values = [trial.value for trial in names["study"].trials]
    precisions = [float(line["precision"]) for line in table(tmp_path / "study")]
    assert values == pytest.approx(np.reshape(precisions, (3, 2)).mean(axis=1))
    for name in ("study.md", "study.png", "study.json"):
        assert (tmp_path / "study" / name).stat().st_size > 100


def test_a_study_killed_at_random_has_the_table_of_an_unkilled_one(start, tmp_path):
    vary = ("--vary=learning_rate=0.05,0.1", "--seeds=2")
    whole = finish(start("20", *vary, folder="whole"))
    assert whole.returncode == 0, whole.stderr
    draw = random.Random(int.from_bytes(os.urandom(4)))
    for _ in range(3):
        process = start("20", *vary)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(draw.uniform(3, 15))
        process.kill()
    done = finish(start("20", *vary))
    assert done.returncode == 0, done.stderr
    assert table(tmp_path / "study") == table(tmp_path / "whole")


def test_ctrl_c_lets_the_runs_save_and_the_same_command_goes_on(start, tmp_path):
    process = start("300", "--seeds=2")
    runs = tmp_path / "study" / "000"
    wait_for_step(runs / "seed=0" / "log.txt", process)
    process.send_signal(signal.SIGINT)
    stopped = finish(process)
    assert_one_line(stopped, 130, "stopped by SIGINT before all runs finished")
    assert not (runs / "seed=1").exists()
    [saved] = (runs / "seed=0" / "checkpoints").iterdir()
    done = finish(start("300", "--seeds=2"))
    assert done.returncode == 0, done.stderr
    assert f"000, seed 0: resuming from step {saved.name}, " in done.stdout
    assert "(2 of 2 runs)" in done.stdout


def test_a_study_that_was_killed_waits_for_its_training(start, tmp_path):
    run = tmp_path / "study" / "000" / "seed=0"
    process = start("300")
    wait_for_step(run / "log.txt", process)
    process.kill()
    training = int((run / ".lock").read_text())
    os.kill(training, signal.SIGSTOP)
    second = start("300")
    read_until(second, "000, seed 0: waiting for the run in progress there")
    os.kill(training, signal.SIGCONT)
    done = finish(second)
    assert done.returncode == 0, done.stderr
    assert "000, seed 0: resuming from step 300, " in done.stdout


def test_hopeless_settings_are_pruned(start, tmp_path):
    done = finish(
        start(
            "400",
            *("--vary=learning_rate=0.1,1e-9", "--seeds=2", "--validation_size=97"),
            *("--eval_frequency=20", "--pruner=median(n_startup_trials=1)"),
        )
    )
    assert done.returncode == 0, done.stderr
    lines = table(tmp_path / "study")
    assert [line["learning_rate"] for line in lines] == ["0.1", "0.1", "1e-9"]
    assert lines[-1]["outcome"].startswith("pruned at step ")
    log = (
        tmp_path / "study" / "001-learning_rate=1e-9" / "seed=0" / "log.txt"
    ).read_text()
    assert "step 399," not in log


def test_own_code_is_imported_in_all_runs(start, tmp_path):
    own = tmp_path / "own_networks.py"
    own.write_text(
        "import functools\n"
        "from cifar_jax import register\n"
        "from cifar_jax.models.resnet import CifarResNet\n"
        "tiny = functools.partial(CifarResNet, depths=(1,))\n"
        "register('model', 'tiny_resnet')(tiny)\n"
    )
    grid = ("--model=tiny_resnet(width={width})", "--vary=width=2,3")
    refused = finish(start("2", *grid))
    assert_one_line(refused, 2, "tiny_resnet is unknown")
    done = finish(start("2", *grid, f"--import={own}"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("precision @ 1 = ") == 2
    path = tmp_path / "study" / "001-width=3" / "seed=0" / "config.json"
    config = json.loads(path.read_text())
    assert config["imports"] == {"model tiny_resnet": str(own)}
    assert config["config"]["model"] == "tiny_resnet(width=3)"
