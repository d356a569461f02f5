import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading

import filelock
import jax
import numpy as np
import pytest
from helpers import assert_equal_states, command, environment

from cifar_jax import Config, RunError, UserError, fit
from cifar_jax.devices import processes, sharding
from cifar_jax.devices.processes import lost_process_as_run_error
from cifar_jax.devices.strategies import STRATEGIES

HERE = pathlib.Path(__file__).parents[1]
# Bounds on the change in 20 steps due to the order of additions, relative to the norm
# over all tensors of a kind. The largest measured over all cases are 4e-7, 5e-7, 6e-5,
# 2e-5 and 2e-5; most are far smaller, until the last bit decides which pixel is the
# maximum of a pooling window.
BOUNDS = {
    "images": 2e-6,
    "losses": 5e-6,
    "logits": 3e-4,
    "params": 1e-4,
    "batch_stats": 1e-4,
    "averaged": 1e-4,
}
# Seconds within which a process must end after another has died.
BOUND = 120


def on_devices(count: int) -> dict[str, str]:
    """Returns an environment with `count` simulated devices."""
    flags = f"--xla_force_host_platform_device_count={count}"
    return os.environ | {"XLA_FLAGS": flags}


def options(tmp_path: pathlib.Path, count: int) -> dict[str, object]:
    """Returns how to start a command on `count` devices; it compiles faster."""
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "True"}
    return {
        "cwd": tmp_path,
        "env": environment(tmp_path) | on_devices(count) | quick,
    }


def address() -> str:
    """Returns an address of this machine with a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return f"localhost:{probe.getsockname()[1]}"


@contextlib.contextmanager
def started(commands: list[list[str]], **options):
    """Starts the commands as processes and kills them when the context ends."""
    processes = [
        subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )
        for words in commands
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def finish(processes: list[subprocess.Popen]) -> list[str]:
    """Returns the output of the processes after asserting that all succeeded."""
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
    return outputs


def until(words: str, process: subprocess.Popen) -> str:
    """Returns the output up to a line with these words; fails if there is none."""
    assert process.stdout is not None
    seen = ""
    watchdog = threading.Timer(200, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            seen += line
            if words in line:
                return seen
    finally:
        watchdog.cancel()
    pytest.fail(seen)


# The networks whose steps one start of steps_on_devices.py takes, by its mode, devices
# and processes.
NETWORKS = {
    ("jit", 1, 1): ("tutorial", "batch_norm", "mixtures", "sam", "vit", "augmented"),
    ("jit", 2, 1): ("tutorial",),
    ("jit", 8, 1): ("batch_norm", "mixtures", "sam", "vit", "augmented"),
    ("jit", 8, 2): ("tutorial", "batch_norm", "streamed"),
    ("pmap", 8, 1): ("batch_norm", "mixtures", "sam", "streamed"),
    ("pmap", 8, 2): ("tutorial",),
}


@pytest.fixture(scope="module")
def run_steps(make_once):
    """Returns a function that runs steps_on_devices.py once for each case."""

    def run(
        mode: str, num_devices: int, processes: int
    ) -> dict[str, dict[str, np.ndarray]]:
        networks = NETWORKS[mode, num_devices, processes]

        def compute(folder: pathlib.Path) -> None:
            script = [sys.executable, "-W", "error:::cifar_jax", "steps_on_devices.py"]
            words = [*script, mode, str(num_devices), ",".join(networks), str(folder)]
            commands = [words]
            if processes > 1:
                where = address()
                commands = [
                    [*words, where, str(processes), str(i)] for i in range(processes)
                ]
            env = on_devices(num_devices // processes)
            with started(commands, cwd=HERE, env=env) as all_:
                finish(all_)

        folder = make_once(f"steps_{mode}_{num_devices}_{processes}", compute)
        return {name: dict(np.load(folder / f"{name}.npz")) for name in networks}

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "num_devices", "processes"), [case for case in NETWORKS if case[1] > 1]
)
def test_many_devices_take_the_steps_of_one(run_steps, mode, num_devices, processes):
    """Batch statistics span all devices, whose images are mixed with one another.

    Streamed images change no bit.
    """
    on_one = run_steps("jit", 1, 1)
    found = run_steps(mode, num_devices, processes)
    for network, arrays in found.items():
        if network == "streamed":
            assert_equal_states(arrays, found["batch_norm"])
        else:
            what = f"{network}, {mode} on {num_devices} of {processes}"
            assert_same_steps(arrays, on_one[network], what)
        if network == "batch_norm":
            assert any(name.startswith("batch_stats") for name in arrays)
            assert any("averaged['batch_stats']" in name for name in arrays)


def assert_same_steps(found, expected, what):
    assert found.keys() == expected.keys()
    for name in {"crops", "flips", "brightness", "contrast"} & expected.keys():
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    for kind, bound in BOUNDS.items():
        wanted, got = (
            np.concatenate(
                [np.ravel(all_[name]) for name in all_ if name.startswith(kind)] or [[]]
            )
            for all_ in (expected, found)
        )
        difference, norm = np.linalg.norm(got - wanted), np.linalg.norm(wanted)
        print(f"{what}: {kind} {difference / max(norm, 1e-30):.0e}")
        assert difference <= bound * norm, kind
    assert expected["losses"][-1] < expected["losses"][0]


def train_on_two(
    train_dir: pathlib.Path, *arguments: object, slurm: bool = False
) -> list[list[str]]:
    """Returns two train commands that find each other through flags or SLURM."""
    host, port = address().split(":")

    def prefix_and_flags(i: int) -> tuple[list[str], list[str]]:
        if not slurm:
            where = f"--coordinator_address={host}:{port}"
            return [], [where, "--num_processes=2", f"--process_id={i}"]
        names = ("SLURM_PROCID", "SLURM_LOCALID")
        step = ["SLURM_JOB_ID=7", "SLURM_NTASKS=2", f"SLURM_STEP_NODELIST={host}"]
        own = [f"{name}={i}" for name in names]
        return ["env", *step, *own, f"JAX_COORDINATOR_PORT={port}"], []

    return [
        [*environment_, *command(*train_words(train_dir), *flags, *arguments)]
        for environment_, flags in map(prefix_and_flags, range(2))
    ]


def train_words(train_dir: pathlib.Path) -> tuple[str, ...]:
    """Returns the words of a train command, in one or each of several processes."""
    return ("train", "--dataset=digits", "--batch_size=16", f"--train_dir={train_dir}")


@pytest.mark.slow
def test_two_processes_train_and_one_resumes(tmp_path, call_command):
    run = tmp_path / "run"
    commands = train_on_two(run, "--max_steps=2", "--log_frequency=1")
    with started(commands, **options(tmp_path, 2)) as processes:
        first, second = finish(processes)
    assert "4 devices (cpu) of 2 processes, batch size 16, 4 on each device" in first
    assert re.search(r"step 1, loss = ", first)
    # It prints one line: that it waits for the other process.
    assert len(second.splitlines()) == 1
    assert len(list(run.glob("events.out.tfevents.*"))) == 1
    resumed = call_command(*train_words(run), "--max_steps=4")
    assert resumed.returncode == 0, resumed.stderr
    assert f"resumed from step 2 of {run}" in resumed.stdout
    assert "1 device (cpu) of 1 process, " in resumed.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "slurm"), [(0, False), (1, True)])
def test_if_one_process_dies_the_other_ends_and_no_progress_is_lost(
    tmp_path, call_command, victim, slurm
):
    run = tmp_path / "run"
    saved = call_command(*train_words(run), "--max_steps=2")
    assert saved.returncode == 0, saved.stderr
    # No further save is due: during one, JAX's heartbeat would end the others.
    endless = train_on_two(run, "--max_steps=100000", slurm=slurm)
    with started(endless, **options(tmp_path, 1)) as processes:
        output = until("step 10, loss", processes[0])
        processes[victim].kill()
        rest, _ = processes[1 - victim].communicate(timeout=BOUND)
        if slurm:
            assert processes[1].stdout.read() == ""
    if victim == 1:
        assert processes[0].returncode == 1
        assert "another process of this run has failed" in rest
        assert "restart all of them to resume from the last complete checkpoint" in rest
    else:
        # JAX itself ends processes whose coordinator is gone.
        assert processes[1].returncode in (1, -signal.SIGABRT)
        assert "if process 0 dies, JAX aborts the others" in rest
    assert "2 devices (cpu) of 2 processes" in output
    assert "resumed from step 2 of" in output
    again = call_command(*train_words(run), "--max_steps=3")
    assert f"resumed from step 2 of {run}" in again.stdout, again


@pytest.mark.slow
def test_processes_with_different_flags_are_refused(tmp_path):
    commands = train_on_two(tmp_path / "run", "--max_steps=2")
    commands[1].append("--seed=1")
    with started(commands, **options(tmp_path, 1)) as processes:
        outputs = [process.communicate(timeout=BOUND)[0] for process in processes]
    message = "process 1 has different flags or data than process 0"
    assert all(process.returncode in (2, -signal.SIGABRT) for process in processes)
    assert message in outputs[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.wrong_types
def test_num_devices_must_be_available():
    with pytest.raises(UserError, match=r"--num_devices=999 must be from 1 to \d+"):
        sharding.create_mesh(999)
    for wrong in (0, 1.5, "2"):
        with pytest.raises(UserError, match=f"--num_devices={wrong!r} must be"):
            sharding.create_mesh(wrong)


@pytest.mark.parametrize(
    ("batch_size", "message"),
    [(30, "nearest sizes that can: 28 and 32"), (3, "nearest sizes that can: 4")],
)
def test_a_batch_must_be_divided_equally(batch_size, message):
    sharding.check_batch_size(32, 4)
    with pytest.raises(UserError, match=message):
        sharding.check_batch_size(batch_size, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, 2, None), "go together"),
        (("a:1", 2, 2), "must be from 0 to 1"),
        (("host", 2, 0), "is not host:port"),
        (("host:99999", 2, 0), "with a port from 1 to 65535"),
        (("host:0", 2, 0), "with a port from 1 to 65535"),
        ((":80", 2, 0), "is not host:port"),
    ],
)
def test_invalid_process_settings_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        processes.start(*arguments)


def test_flags_are_checked_against_the_devices(tmp_path, run_command):
    env = environment(tmp_path) | on_devices(4)
    flags = ("--dataset=digits", "--batch_size=30")
    result = run_command("train", *flags, env=env)
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1
    assert "nearest sizes that can: 28 and 32" in result.stderr
    assert not (tmp_path / "cifar10_train").exists()


def test_the_first_devices_are_used(dataset):
    config = Config(
        max_steps=1, batch_size=8, num_devices=1, model="small", train_dir=None
    )
    state = fit(config, dataset, lambda _: None).state
    assert state.step.sharding.device_set == {jax.devices()[0]}


def test_a_jax_without_pmap_is_reported(monkeypatch):
    monkeypatch.delattr(jax, "pmap")
    with pytest.raises(UserError, match=r"no longer has pmap; .*jit gives the same"):
        STRATEGIES["pmap"](sharding.create_mesh(1))


def test_device_errors_of_a_single_process_are_passed_on():
    with (
        pytest.raises(jax.errors.JaxRuntimeError),
        lost_process_as_run_error(),
    ):
        raise jax.errors.JaxRuntimeError("out of memory")


@pytest.mark.parametrize("kind", [jax.errors.JaxRuntimeError, ValueError])
def test_errors_of_a_collective_are_blamed_on_another_process(monkeypatch, kind):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with (
        pytest.raises(RunError, match="another process"),
        lost_process_as_run_error(),
    ):
        raise kind("UNKNOWN: Gloo AllGather failed: Connection reset by peer")


def test_other_errors_are_not_blamed_on_another_process(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with (
        pytest.raises(ValueError, match="not so many"),
        lost_process_as_run_error(),
    ):
        raise ValueError("not so many values")


def test_a_failure_in_the_main_process_is_raised_there():
    def fail():
        raise UserError("no room")

    with pytest.raises(UserError, match="no room"):
        processes.run_on_main(fail)


@pytest.mark.slow
def test_other_processes_learn_of_a_failure_in_the_main_process(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    commands = train_on_two(run, "--max_steps=2")
    locked = filelock.FileLock(run / ".lock")
    with locked, started(commands, **options(tmp_path, 1)) as processes:
        outputs = [process.communicate(timeout=BOUND)[0] for process in processes]
    assert processes[0].returncode == 2
    assert "another training run" in outputs[0]
    # JAX may first end a process whose coordinator is gone.
    assert processes[1].returncode in (1, -signal.SIGABRT)
    if processes[1].returncode == 1:
        assert "process 0 has failed; its own message says why" in outputs[1]
