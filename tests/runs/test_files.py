"""Tests of files that appear whole, whoever writes them at the same time."""

import multiprocessing
import os
import subprocess
import sys

import pytest

from cifar_jax.runs import files
from cifar_jax.runs.files import write_atomically, write_together

KILLED = """
import os, pathlib, sys
from cifar_jax.runs import files

os.replace = lambda *_: os.kill(os.getpid(), 9)
files.write_atomically(pathlib.Path(sys.argv[1], "file"), b"half of it")
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_with_the_usual_permissions(tmp_path):
    path = tmp_path / "é"
    for contents in ("one", b"two"):
        write_atomically(path, contents)
    assert path.read_bytes() == b"two"
    umask = os.umask(0o022)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    assert names(tmp_path) == ["é"]


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    write_together(tmp_path, {"a": "old", "b": "old"})
    before = names(tmp_path)
    written = []

    def full(number):
        written.append(number)
        if len(written) == 2:
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_together(tmp_path, {"a": "new", "b": "new"})
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "old"
    assert names(tmp_path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_next_writer_deletes_what_a_killed_one_has_left(tmp_path):
    result = subprocess.run([sys.executable, "-c", KILLED, tmp_path])
    assert result.returncode == -9
    [left] = names(tmp_path)
    assert (tmp_path / left).read_bytes() == b"half of it"
    foreign = ["report.html.partial", ".cifar_jax-notes"]
    for name in foreign:
        (tmp_path / name).write_text("a user's")
    os.mkfifo(tmp_path / ".cifar_jax-fifo.partial")
    write_atomically(tmp_path / "file", "whole")
    assert names(tmp_path) == sorted([*foreign, ".cifar_jax-fifo.partial", "file"])


def test_what_is_being_written_is_not_deleted(tmp_path, monkeypatch):
    replace, slow = os.replace, []

    def late(source, target):
        if not slow:
            slow.append(target)
            write_atomically(tmp_path / "other", "quick")
        replace(source, target)

    monkeypatch.setattr(os, "replace", late)
    write_atomically(tmp_path / "slow", "slow")
    assert (tmp_path / "slow").read_text() == "slow"
    assert names(tmp_path) == ["other", "slow"]


def test_a_file_that_is_taken_for_a_leftover_is_created_again(tmp_path, monkeypatch):
    delete, lock = files._delete_leftovers, files.fcntl.flock
    taken = []

    def late(file, how):
        if not taken:
            taken.append(file)
            delete(tmp_path)
            assert names(tmp_path) == []
        lock(file, how)

    monkeypatch.setattr(files.fcntl, "flock", late)
    write_atomically(tmp_path / "file", "whole")
    assert taken
    assert (tmp_path / "file").read_text() == "whole"


def _write_often(folder, number):
    for _ in range(30):
        write_atomically(folder / "one", f"{number}" * 1000)
        write_together(folder, dict.fromkeys(("a", "b", "c"), f"{number}"))
        write_atomically(folder / "one", f"{number}" * 1000)


def test_many_writers_at_the_same_time_leave_files_of_one(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=_write_often, args=(tmp_path, number))
        for number in range(3)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert len({(tmp_path / name).read_text() for name in ("a", "b", "c")}) == 1
    assert len(set((tmp_path / "one").read_text())) == 1
    assert names(tmp_path) == ["a", "b", "c", "one"]
