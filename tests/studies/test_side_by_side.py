import os
import signal
import sys
import threading
import time

import jax
import pytest

from cifar_jax import Stopped, UserError
from cifar_jax.studies import side_by_side
from cifar_jax.studies.side_by_side import Processes, Share, available_cores


def test_runs_share_the_cores_or_the_gpus(monkeypatch):
    monkeypatch.setattr(side_by_side, "available_cores", lambda: [0, 2, 4, 6, 7])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert side_by_side.shares(1) == [Share()]
    monkeypatch.setattr(side_by_side, "_devices", lambda: ("cpu", 1))
    assert side_by_side.shares(2) == [Share([0, 2, 4]), Share([6, 7])]
    monkeypatch.setattr(side_by_side, "_devices", lambda: ("gpu", 3))

    def visible(count):
        shares = side_by_side.shares(count)
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
    monkeypatch.setattr(side_by_side, "available_cores", lambda: [0, 1, 2])
    monkeypatch.setattr(side_by_side, "_devices", lambda: (platform, devices))
    with pytest.raises(UserError, match=message):
        side_by_side.shares(4)


def test_devices_are_counted_in_another_process():
    assert side_by_side._devices() == (jax.default_backend(), jax.device_count())


def python(code):
    return [sys.executable, "-S", "-c", code]


def test_a_process_runs_on_its_share(tmp_path):
    core = available_cores()[-1]
    log = tmp_path / "log.txt"
    code = "import os; print(os.sched_getaffinity(0), os.environ['NAME'])"

    def work():
        share = Share([core], {"NAME": "one"})
        share.take()
        Processes().run(python(code), share.environment, log)

    before = available_cores()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert log.read_text() == f"{{{core}}} one\n"
    assert available_cores() == before


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


def test_a_hopeless_process_is_stopped_by_sigterm(tmp_path):
    code = """
import signal, time
got = []
signal.signal(signal.SIGTERM, lambda signum, frame: got.append(signum))
print("ready", flush=True)
while not got:
    time.sleep(0.01)
print("saved")
"""
    log = tmp_path / "log.txt"
    asked = []

    def is_hopeless():
        asked.append(log.read_text())
        return asked[-1] == "ready\n"

    assert Processes().run(python(code), {}, log, is_hopeless) is None
    assert log.read_text() == "ready\nsaved\n"
    assert "ready\n" not in asked[:-1]
