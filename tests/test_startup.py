import os
import subprocess
import sys

import pytest
from helpers import assert_one_line, command, environment
from PIL import Image

from cifar_jax import startup
from cifar_jax.__main__ import COMMANDS

VARIABLE = "GLIBC_TUNABLES"
HUGE = "glibc.malloc.hugetlb=1"
KEEP = (
    f"glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold={2**62}"
    ":glibc.malloc.arena_max=1"
)
CHECK = "glibc.malloc.check=3"


@pytest.fixture
def mode(tmp_path, monkeypatch):
    """The kernel's file; there are no tunables in the environment."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(startup, "MODE", tmp_path / "enabled")
    return tmp_path / "enabled"


@pytest.mark.parametrize(
    ("setting", "given", "expected"),
    [
        ("always [madvise] never\n", "", f"{KEEP}:{HUGE}"),
        ("[always] madvise never\n", "", KEEP),
        ("always madvise [never]\n", "", KEEP),
        ("always [madvise] never\n", CHECK, f"{CHECK}:{KEEP}:{HUGE}"),
        # What the user set is kept.
        ("always [madvise] never\n", "glibc.malloc.hugetlb=0", f"...:{KEEP}"),
        ("always [madvise] never\n", f"{KEEP}:glibc.malloc.hugetlb=2", None),
        ("[always] madvise never\n", KEEP, None),
    ],
)
def test_memory_is_kept_and_huge_pages_are_asked_for(
    mode, monkeypatch, setting, given, expected
):
    mode.write_text(setting)
    monkeypatch.setenv(VARIABLE, given)
    found = startup.environment()
    if expected is None:
        assert found == {}
    else:
        assert found == {VARIABLE: expected.replace("...", given)}


def test_nothing_is_set_on_other_systems(mode):
    assert not mode.exists()
    assert startup.environment() == {}


SCRIPT = """
import os, pathlib, sys
from cifar_jax import startup

startup.MODE = pathlib.Path(sys.argv[1])
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), sys.argv[2:], flush=True)
{extra}
startup.prepare()
print(sys.stdin.read())
"""


def run_script(mode, extra="", name="cifar-jax"):
    script = mode.parent / name
    script.write_text(SCRIPT.format(extra=extra))
    command = [sys.executable, str(script), str(mode), "a b", ""]
    done = subprocess.run(
        command, input="unread", capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_the_process_restarts_once_as_itself(mode):
    mode.write_text("always [madvise] never\n")
    before, after, rest = run_script(mode)
    pid, _, arguments = before.split(maxsplit=2)
    assert after == f"{pid} {KEEP}:{HUGE} {arguments}"
    assert arguments == "['a b', '']"
    assert rest == "unread"


def test_a_debugged_process_does_not_restart(mode):
    mode.write_text("always [madvise] never\n")
    assert len(run_script(mode, "sys.settrace(lambda *_: None)")) == 2


def test_a_process_that_is_no_command_does_not_restart(mode):
    mode.write_text("always [madvise] never\n")
    assert len(run_script(mode, name="script.py")) == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-m cifar_jax.train --max_steps=1", True),
        ("-m cifar_jax train", True),
        ("-u -W error:::cifar_jax -X dev -m cifar_jax.eval", True),
        ("-Im cifar_jax.eval", True),
        ("-Werror /usr/bin/cifar-jax train", True),
        (r"C:/Scripts/cifar-jax.exe train", True),
        ("-m ipykernel_launcher -f kernel.json", False),
        ("-m cProfile -m cifar_jax.train", False),
        ("-m cifar_jax_tools.train", False),
        ("script.py -m cifar_jax.train", False),
        ("-c pass -m cifar_jax.train", False),
        ("", False),
    ],
)
def test_commands_are_recognized_by_how_they_were_started(words, expected):
    assert startup.is_command(["python", *words.split()]) == expected


HOST = """
import runpy, signal, sys
mine, handler = 1, signal.getsignal(signal.SIGINT)
sys.argv = ["train", "--help"]
for _ in range(2):
    try:
        runpy.run_module("cifar_jax.{name}", run_name="__main__", alter_sys={alter})
    except SystemExit as end:
        print("ended", end.code, mine, signal.getsignal(signal.SIGINT) is handler)
"""


def count_starts(folder, *words):
    """Runs Python; returns how often it started in the same process, and its output."""
    (folder / "sitecustomize.py").write_text(
        "import os\nopen(os.environ['STARTS'], 'a').write(f'{os.getpid()}\\n')\n"
    )
    variables = environment(folder) | {
        "STARTS": str(folder / "starts"),
        "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
    }
    variables.pop(VARIABLE, None)
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    pids = (folder / "starts").read_text().splitlines()
    assert len(set(pids)) == 1
    return len(pids), done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_commands_restart_but_not_the_process_that_runs_them_as_modules(
    name, tmp_path, monkeypatch
):
    monkeypatch.delenv(VARIABLE, raising=False)
    starts, usage = count_starts(tmp_path, "-m", f"cifar_jax.{name}", "--help")
    assert starts == 1 + bool(startup.environment())
    (tmp_path / "starts").unlink()
    script = tmp_path / "host.py"
    script.write_text(HOST.format(name=name, alter=name != "train"))
    starts, text = count_starts(tmp_path, str(script))
    assert starts == 1
    assert text.count(usage) == 2
    assert text.count("ended 0 1 True\n") == 2


STREAMS = """
import os, sys
from cifar_jax import startup
startup.open_closed_streams()
file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
print("lost", file=sys.stderr, flush=True)
try:
    print("kept", flush=True)
    os.write(file, b"written")
except OSError as error:
    os.write(file, error.strerror.encode())
    os._exit(0)
"""


@pytest.mark.parametrize(
    ("redirections", "written"),
    [
        ("", "written"),
        ("2>&-", "written"),
        ("<&-", "written"),
        ("<&- 2>&-", "written"),
        (">&-", "Bad file descriptor"),
        ("<&- >&- 2>&-", "Bad file descriptor"),
    ],
)
def test_files_do_not_take_the_places_of_closed_streams(
    tmp_path, redirections, written
):
    file = tmp_path / "file"
    words = ["sh", "-c", f'exec "$0" "$@" {redirections}', sys.executable, "-c"]
    result = subprocess.run(
        [*words, STREAMS, str(file)], capture_output=True, text=True, check=True
    )
    assert file.read_text() == written
    assert result.stdout == ("" if ">&-" in redirections.split() else "kept\n")
    assert result.stderr == ("" if "2>&-" in redirections else "lost\n")


def run_redirected(folder, redirections, *words):
    """Runs a command of this package as a shell does with these redirections."""
    return subprocess.run(
        ["sh", "-c", f'exec "$0" "$@" {redirections}', *command(*words)],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.parametrize("streams", [">&-", "<&- >&- 2>&-"])
def test_a_training_goes_on_without_its_streams(tmp_path, streams):
    words = ("--dataset=digits", "--batch_size=8", "--max_steps=2", "--train_dir=run")
    result = run_redirected(tmp_path, streams, "train", *words)
    assert result.returncode == 0
    assert (tmp_path / "run" / "checkpoints" / "2").is_dir()
    warning = "cannot write to standard output: Bad file descriptor; training continues"
    assert len(result.stderr.splitlines()) == (streams == ">&-")
    assert warning in result.stderr or streams != ">&-"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words", "stream"),
    [
        ("eval", ["--checkpoint_dir=run", "--eval_dir=evaluations"], ">/dev/full"),
        ("predict", ["picture.png"], ">&-"),
        ("predict", ["picture.png"], ">/dev/full"),
        ("export", ["--checkpoint_dir=run", "--out=export"], ">&-"),
        ("compare", ["run"], ">/dev/full"),
        ("demo", ["--port=0"], ">&-"),
    ],
)
def test_results_that_cannot_be_printed_are_one_line(
    tmp_path, digits_run, name, words, stream
):
    (tmp_path / "run").symlink_to(digits_run / "run")
    Image.new("RGB", (32, 32)).save(tmp_path / "picture.png")
    result = run_redirected(tmp_path, stream, name, *words)
    assert_one_line(result, 1, "cannot write to standard output")
    if name == "predict":
        result = run_redirected(tmp_path, f"{stream} 2>{stream[1:]}", name, *words)
        assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["2>&-", "2>/dev/full", "<&-"])
def test_results_are_printed_whatever_the_other_streams_are(tmp_path, stream):
    Image.new("RGB", (32, 32)).save(tmp_path / "picture.png")
    result = run_redirected(tmp_path, stream, "predict", "none.png", "picture.png")
    assert result.returncode == 2  # of none.png
    assert result.stdout.startswith("picture.png\n")
