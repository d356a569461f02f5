import subprocess
import sys

import pytest

from cifar_jax import startup

VARIABLE = "GLIBC_TUNABLES"
ON = "glibc.malloc.hugetlb=1"


@pytest.fixture
def mode(tmp_path, monkeypatch):
    """The kernel's file; there are no tunables in the environment."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(startup, "_MODE", tmp_path / "enabled")
    return tmp_path / "enabled"


def test_huge_pages_are_asked_for_where_programs_must_ask(mode):
    mode.write_text("always [madvise] never\n")
    assert startup.environment() == {VARIABLE: ON}


@pytest.mark.parametrize(
    "setting", ["[always] madvise never\n", "always madvise [never]\n", None]
)
def test_nothing_is_set_where_it_would_have_no_effect(mode, setting):
    if setting is not None:
        mode.write_text(setting)
    assert startup.environment() == {}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("glibc.malloc.check=3", {VARIABLE: f"glibc.malloc.check=3:{ON}"}),
        ("glibc.malloc.check=3:glibc.malloc.hugetlb=0", {}),
        ("glibc.malloc.hugetlb=2", {}),
    ],
)
def test_what_the_user_set_is_kept(mode, monkeypatch, given, expected):
    mode.write_text("always [madvise] never\n")
    monkeypatch.setenv(VARIABLE, given)
    assert startup.environment() == expected


SCRIPT = """
import os, pathlib, sys
from cifar_jax import startup

startup._MODE = pathlib.Path(sys.argv[1])
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), sys.argv[2:], flush=True)
{extra}
startup.prepare()
print(sys.stdin.read())
"""


def run_script(mode, extra=""):
    command = [sys.executable, "-c", SCRIPT.format(extra=extra), str(mode), "a b", ""]
    done = subprocess.run(
        command, input="unread", capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_the_process_restarts_once_as_itself(mode):
    mode.write_text("always [madvise] never\n")
    before, after, rest = run_script(mode)
    pid, _, arguments = before.split(maxsplit=2)
    assert after == f"{pid} {ON} {arguments}"
    assert arguments == "['a b', '']"
    assert rest == "unread"


def test_a_debugged_process_does_not_restart(mode):
    mode.write_text("always [madvise] never\n")
    assert len(run_script(mode, "sys.settrace(lambda *_: None)")) == 2
