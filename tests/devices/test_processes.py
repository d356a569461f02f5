"""Tests how a process waits for others, or does without; see also test_parallel."""

import subprocess
import sys

import jax
import pytest
from helpers import environment

from cifar_jax import UserError
from cifar_jax.devices import processes

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NODELIST": "localhost",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}
PROGRAM = """
from cifar_jax.devices import processes

processes.SILENT_SECS, processes.WAIT_SECS = 0.5, 3
processes.start(*{})
print("started")
"""


def start(folder, arguments: tuple[object, ...], **variables: str):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(arguments)],
        env=environment(folder) | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_a_process_says_what_it_waits_for_and_ends_in_one_line(tmp_path):
    found = start(tmp_path, (), **SLURM)
    assert (found.returncode, found.stdout) == (1, "")
    waiting, error = found.stderr.splitlines()
    others = "the 2 processes of this run (SLURM_NTASKS of Slurm)"
    way = "to train in this process alone, pass --num_processes=1"
    assert waiting == f"waiting for {others} to start; {way}"
    assert error == (
        f"error: {others} have not started within 3 seconds; start all of them; {way}"
    )


@pytest.mark.slow
def test_one_process_waits_for_nobody(tmp_path):
    found = start(tmp_path, (None, 1, None), **SLURM)
    assert (found.returncode, found.stdout, found.stderr) == (0, "started\n", "")


@pytest.fixture
def without_answer(monkeypatch):
    def initialize(*_, **options):
        raise RuntimeError("Service token file does not exist.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")


def test_a_lone_pod_trains_alone(without_answer, capsys):
    processes.start()
    seen = capsys.readouterr().err
    assert seen.startswith("warning: Kubernetes does not say whether there are other")
    assert seen.count("\n") == 1


def test_a_pod_of_several_does_not_train_alone(without_answer, monkeypatch):
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    with pytest.raises(UserError, match=r"token file .*; to train .*num_processes=1"):
        processes.start()
    processes.start(num_processes=1)
