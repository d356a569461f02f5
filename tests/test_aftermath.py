import json
import subprocess
import sys

import pytest
from helpers import assert_one_line, command, environment

SCRIPT = """
import asyncio, logging, sys, threading, types
from cifar_jax import aftermath
aftermath.silence()
from absl import logging as absl_logging

def of(file, text):
    exec(compile(text, file, "exec"), globals())

async def pending():
    await asyncio.sleep(60)

def run(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()

class Noisy:
    def __init__(self, error):
        self.error = error
    def __del__(self):
        raise self.error

# Of a library, which an error has cut short.
of("/lib/orbax/future.py", "def log(): absl_logging.error('background')")
log()
pending()
loop = asyncio.new_event_loop()
task = loop.create_task(pending())
loop.run_until_complete(asyncio.sleep(0))
loop.close()
del task, loop
Noisy(RuntimeError("Event loop is closed"))
of("/lib/orbax/threads.py", "def work(): raise OSError(24, 'Too many open files')")
run(work)
# Whatever else needs a file handle when there is none left.
Noisy(OSError(24, "Too many open files"))
of("selectors.py", "def wait(): raise OSError(24, 'Too many open files')")
run(wait)
# Anybody else's.
absl_logging.error("first")
logging.getLogger("asyncio").error("second")
Noisy(ValueError("third"))
run(lambda: 1 / 0)
"""


def test_only_what_follows_from_an_error_is_silenced():
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    lines = [line for line in result.stderr.splitlines() if not line.startswith(" ")]
    assert [line for line in lines if line[:9] not in ("Traceback", "Exception")] == [
        "ERROR:absl:first",
        "ERROR:asyncio:second",
        "ValueError: third",
        "ZeroDivisionError: division by zero",
    ]


def test_a_failed_command_waits_for_no_thread_of_orbax():
    script = """
import threading
from absl import flags
from cifar_jax import RunError, command
Waiting = type("Waiting", (threading.Thread,), {"__module__": "orbax.futures"})
def main(arguments):
    print("some lines", flush=True)
    Waiting(target=threading.Event().wait).start()
    raise RunError("of which one is this")
command.run(main, lambda: None, "")
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert_one_line(result, 1, "of which one is this")
    assert result.stdout == "some lines\n"


@pytest.mark.slow
def test_a_network_of_another_size_is_one_line(digits_run, tmp_path):
    """A config that is edited as config.json says, to one that the checkpoint lacks."""
    run = tmp_path / "run"
    (run / "checkpoints").parent.mkdir()
    (run / "checkpoints").symlink_to(digits_run / "run" / "checkpoints")
    saved = json.loads((digits_run / "run" / "config.json").read_text())
    del saved["sha256"]
    saved["config"]["image_size"] = 32
    (run / "config.json").write_text(json.dumps(saved))
    for _ in range(3):  # what libraries print is a matter of luck
        result = subprocess.run(
            command("eval", "--checkpoint_dir=run"),
            cwd=tmp_path,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert_one_line(result, 1, "cannot load the checkpoint run/checkpoints/20")
        assert len(result.stderr.splitlines()) == 2  # and that there is no sha256


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="limits")
@pytest.mark.parametrize("files", [10, 14, 18, 22])
def test_too_few_file_handles_are_one_line(tmp_path, files):
    words = ("--dataset=digits", "--batch_size=8", "--max_steps=1", "--train_dir=run")
    words = [f'ulimit -n {files}; exec "$0" "$@"', *command("train", *words)]
    result = subprocess.run(
        ["sh", "-c", *words],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert_one_line(result, 1, "cannot save the checkpoint of step 1")
    assert len(result.stderr.splitlines()) == 1
