"""Tests how the runs of a sweep share the machine, and their table."""

import os
import shutil
import signal
import sys
import threading
import time

import pytest

from cifar_jax import Stopped, UserError
from cifar_jax.writers import Summary, Writers
from experiments.accuracy import sweep_table
from experiments.harness import machine, side_by_side
from experiments.harness.jobs import Job
from experiments.harness.side_by_side import Processes, Share


def test_runs_share_the_cores_or_the_gpus(monkeypatch):
    monkeypatch.setattr(machine, "available_cores", lambda: [0, 2, 4, 6, 7])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert side_by_side.shares(1, "tpu", 4) == [Share()]
    assert side_by_side.shares(2, "cpu", 1) == [Share([0, 2, 4]), Share([6, 7])]

    def visible(count):
        shares = side_by_side.shares(count, "gpu", 3)
        return [share.environment["CUDA_VISIBLE_DEVICES"] for share in shares]

    assert visible(3) == ["0", "1", "2"]
    assert visible(2) == ["0,1", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    assert visible(3) == ["4", "5", "7"]


@pytest.mark.parametrize(
    ("platform", "devices", "message"),
    [
        ("cpu", 99, "--at_a_time=4 exceeds the number of cores, which is 3"),
        ("gpu", 2, "--at_a_time=4 exceeds the number of GPUs, which is 2"),
        ("tpu", 8, "--at_a_time=4 needs a CPU or GPUs, not a tpu; leave it at 1"),
    ],
)
def test_more_runs_at_a_time_than_the_machine_has_room_for(
    monkeypatch, platform, devices, message
):
    monkeypatch.setattr(machine, "available_cores", lambda: [0, 1, 2])
    with pytest.raises(UserError, match=message):
        side_by_side.shares(4, platform, devices)


def python(code):
    return [sys.executable, "-S", "-c", code]


def test_a_process_runs_on_its_share(tmp_path):
    core = machine.available_cores()[-1]
    log = tmp_path / "log.txt"
    code = "import os; print(os.sched_getaffinity(0), os.environ['NAME'])"

    def work():
        share = Share([core], {"NAME": "one"})
        share.take()
        Processes().run(python(code), share.environment, log)

    before = machine.available_cores()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert log.read_text() == f"{{{core}}} one\n"
    assert machine.available_cores() == before


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('error: no')", None),
        (
            "print('error: the disk is full'); print('bye'); raise SystemExit(1)",
            "the disk is full",
        ),
        ("print('no such thing'); raise SystemExit(2)", "no such thing"),
        ("raise SystemExit(3)", "exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL"),
    ],
)
def test_why_a_process_failed(tmp_path, code, reason):
    log = tmp_path / "log.txt"
    log.write_text("error: an earlier one\n")
    assert Processes().run(python(code), {}, log) == reason
    assert log.read_text().startswith("error: an earlier one\n")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_running_processes_once_and_no_others_start(tmp_path, signum):
    code = """
import signal, time
got = []
for signum in (signal.SIGINT, signal.SIGTERM):
    signal.signal(signum, lambda signum, frame: got.append(int(signum)))
print("ready", flush=True)
while not got:
    time.sleep(0.01)
time.sleep(0.1)
print(got)
raise SystemExit(1)
"""
    found = {}

    def work(name):
        try:
            processes.run(python(code), {}, tmp_path / name)
        except Stopped as error:
            found[name] = str(error)

    with Processes() as processes:
        threads = [threading.Thread(target=work, args=name) for name in "ab"]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        logs = [tmp_path / name for name in "ab"]
        while not all(p.exists() and p.read_text() == "ready\n" for p in logs):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(os.getpid(), signum)
        for thread in threads:
            thread.join()
        with pytest.raises(Stopped):
            processes.run(python("print('never')"), {}, tmp_path / "c")
    name = signum.name
    assert found["a"].startswith(f"stopped by {name} before all runs finished")
    assert [log.read_text() for log in logs] == [f"ready\n[{int(signum)}]\n"] * 2
    assert (tmp_path / "c").read_text() == ""


@pytest.fixture
def swept(digits_run, tmp_path):
    """Returns a folder and its jobs: three finished runs, and two that failed."""
    results = [0.25, 0.75, 0.5, {"failed": "disk full"}, {"diverged": "at step 3"}]
    jobs = []
    for seed, result in enumerate(results):
        run = tmp_path / f"seed={seed}"
        if isinstance(result, float):
            shutil.copytree(digits_run / "run", run)
            with Writers("jsonl", run / "eval") as writers:
                counts = {"num_examples": 300, "examples_in_split": 300}
                scalars = {"precision_at_1": result}
                writers.write(Summary("test", 20, scalars, counts))
            interval = [result - 0.05, result + 0.05]
            names = ("precision_at_1", "precision_at_1_interval_95")
            result = {"precision": dict(zip(names, (result, interval), strict=True))}
        jobs.append(Job(run.name, {"settings": {"seed": str(seed)}}, result))
    return tmp_path, jobs


def test_the_table_has_the_most_precise_run_first_and_failures_last(swept):
    folder, jobs = swept
    records = sweep_table.ranked(jobs, folder)
    assert records[0]["evaluations"]["test"]["last"]["precision_at_1"] == 0.75
    header, _, *rows = sweep_table.table(records, "test").splitlines()
    assert header == "| seed | test precision | 95% interval | minutes |"
    cells = [[cell.strip() for cell in row.split("|")[1:4]] for row in rows]
    assert cells == [
        ["1", "0.750", "0.700-0.800"],
        ["2", "0.500", "0.450-0.550"],
        ["0", "0.250", "0.200-0.300"],
        ["4", "diverged", "-"],
        ["3", "failed", "-"],
    ]
    notes = sweep_table.notes(records, "test").splitlines()
    assert notes[:2] == [
        "seed=4: diverged: at step 3",
        "seed=3: failed: disk full",
    ]
    assert "chosen by the test images themselves" in notes[3]
    best, second = folder / "seed=1", folder / "seed=2"
    assert f"cifar_jax.compare {best} {second} " in notes[-1]
    held_out = sweep_table.notes(records, "validation")
    assert f"cifar_jax.eval --checkpoint_dir={best}" in held_out


def test_a_table_of_failures_alone(tmp_path):
    job = Job("seed=0", {"settings": {"seed": "0"}}, {"failed": "disk full"})
    records = sweep_table.ranked([job], tmp_path)
    assert "| 0    |         failed |" in sweep_table.table(records, "test")
    assert sweep_table.notes(records, "test") == "seed=0: failed: disk full"
