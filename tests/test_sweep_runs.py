"""Runs whole sweeps of a few steps on the stand-in data, as commands."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from helpers import assert_one_line, environment, read_until
from run_experiments import ROOT

from experiments.harness import machine

pytestmark = pytest.mark.slow

STEPS = "--batch_size=8 --log_frequency=1 --max_steps"


@pytest.fixture
def start(tmp_path):
    """Starts a sweep in the folder `out`; kills it and its runs at the end."""
    processes = []
    out = tmp_path / "out"

    def call(max_steps, *arguments):
        words = ["--dataset=digits", f"--out_dir={out}", *arguments]
        words.append(f"--train_flags={STEPS}={max_steps}")
        process = subprocess.Popen(
            [sys.executable, "-m", "experiments.accuracy.sweep", *words],
            cwd=ROOT,
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
    for lock in out.glob("*/.lock"):
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


def test_failed_and_diverged_runs_do_not_stop_the_others(start, tmp_path):
    path = tmp_path / "sweep.json"
    grid = ("--grid=learning_rate=1e30,0.1", "--grid=validation_size=1490,97")
    beside = min(2, len(machine.available_cores()))
    first = finish(start("4", *grid, f"--json={path}", f"--at_a_time={beside}"))
    assert_one_line(first, 1, "2 of 4 runs failed; rerun the command to retry them")
    best, *others = json.loads(path.read_text())["runs"]
    assert best["name"] == "learning_rate=0.1,validation_size=97"
    assert best["evaluations"]["validation"]["last"] == best["precision"]
    assert "diverged at step" in others[0]["diverged"]
    assert all("batch_size=8 is larger" in other["failed"] for other in others[1:])
    again = finish(start("4", *grid))
    assert again.returncode == 1
    assert again.stdout.count(": starting, ") == 2
    assert first.stdout.split("\n\n")[-1] == again.stdout.split("\n\n")[-1]


def test_processes_share_a_sweep_which_can_be_extended(start, tmp_path):
    both = [start("4", "--random=seed=0,1,2", "--trials=2") for _ in range(2)]
    first, second = map(finish, both)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stdout.split("\n\n")[-1] == second.stdout.split("\n\n")[-1]
    names = {path.parent.name for path in (tmp_path / "out").glob("*/result.json")}
    assert (first.stdout + second.stdout).count(": starting, ") == len(names)
    more = finish(start("4", "--random=seed=0,1,2", "--trials=12"))
    assert more.returncode == 0
    assert more.stdout.count(": starting, ") == 3 - len(names)
    other = finish(start("4", "--grid=learning_rate=0.1"))
    assert_one_line(other, 2, "has a different study", "or a different --out_dir")


def test_ctrl_c_lets_the_runs_save_and_the_same_command_goes_on(start, tmp_path):
    grid = "--grid=seed=0,1"
    process = start("300", grid)
    wait_for_step(tmp_path / "out" / "seed=0" / "log.txt", process)
    process.send_signal(signal.SIGINT)
    stopped = finish(process)
    assert_one_line(stopped, 130, "stopped by SIGINT before all runs finished")
    assert not (tmp_path / "out" / "seed=1").exists()
    [saved] = (tmp_path / "out" / "seed=0" / "checkpoints").iterdir()
    done = finish(start("300", grid))
    assert done.returncode == 0, done.stderr
    assert f"seed=0: resuming from step {saved.name}, " in done.stdout
    assert "(2 of 2 done)" in done.stdout


def test_a_sweep_that_was_killed_waits_for_its_training(start, tmp_path):
    run = tmp_path / "out" / "seed=0"
    process = start("300", "--grid=seed=0")
    wait_for_step(run / "log.txt", process)
    process.kill()
    training = int((run / ".lock").read_text())
    os.kill(training, signal.SIGSTOP)
    second = start("300", "--grid=seed=0")
    read_until(second, "seed=0: waiting for the run in progress there")
    os.kill(training, signal.SIGCONT)
    done = finish(second)
    assert done.returncode == 0, done.stderr
    assert "seed=0: resuming from step 300, " in done.stdout


def test_own_code_is_imported_in_all_runs(start, tmp_path):
    own = tmp_path / "own_networks.py"
    own.write_text(
        "import functools\n"
        "from cifar_jax import register\n"
        "from cifar_jax.models.resnet import CifarResNet\n"
        "tiny = functools.partial(CifarResNet, width=2, depths=(1,))\n"
        "register('model', 'tiny_resnet')(tiny)\n"
    )
    grid = ('--grid=model="tiny_resnet","tiny_resnet(width=3)"',)
    refused = finish(start("2", *grid))
    assert_one_line(refused, 2, "--model=tiny_resnet: tiny_resnet is unknown")
    done = finish(start("2", *grid, f"--import={own}"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": precision: ") == 2
    config = next((tmp_path / "out").glob("*/config.json")).read_text()
    assert json.loads(config)["imports"] == {"model tiny_resnet": str(own)}
