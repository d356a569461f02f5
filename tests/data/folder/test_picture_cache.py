"""Tests of the cache of decoded pictures when it, or the machine, is at its limits."""

import errno
import os

import filelock
import numpy as np
import pytest
from PIL import Image

from cifar_jax import RunError, UserError, load_data
from cifar_jax.data.folder import picture_cache


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cifar_jax" / "pictures"


@pytest.fixture
def folder(tmp_path):
    for label in ("cat", "dog"):
        for i in range(3):
            path = tmp_path / "data" / label / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (i, i, i)).save(path)
    return tmp_path / "data"


def names(cache, end):
    return [path.name for path in cache.iterdir() if path.name.endswith(end)]


def test_the_next_run_deletes_what_killed_ones_have_left(folder, cache):
    for name in ("killed", "written", "foreign"):
        (cache / f"{name}.partial").mkdir(parents=True)
        (cache / f"{name}.partial" / "train.images").write_bytes(bytes(1000))
    (cache / "listed.partial").write_text("{")
    (cache / "foreign.partial").rename(cache / "foreign")
    with filelock.FileLock(cache / "written.lock"):
        load_data("folder", folder)
    assert names(cache, ".partial") == ["written.partial"]
    assert (cache / "foreign").is_dir()
    load_data("folder", folder)
    assert names(cache, ".partial") == []


@pytest.mark.parametrize("full", ["labels", "contents", "record"])
def test_a_full_disk_leaves_nothing(folder, cache, monkeypatch, full):
    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if full == "labels":
            patch.setattr(picture_cache, "_ordinary", fail)
        else:
            write = picture_cache.Path.write_text
            wanted = "contents.json" if full == "contents" else ".partial"
            patch.setattr(
                picture_cache.Path,
                "write_text",
                lambda path, *args, **options: (
                    fail() if path.name.endswith(wanted) else write(path, *args)
                ),
            )
        with pytest.raises(RunError, match=r"No space left on device.*make room"):
            load_data("folder", folder)
    assert names(cache, ".partial") == []
    assert len(load_data("folder", folder).train) == 4


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
        OSError("out of memory when reading image file"),
    ],
)
def test_what_the_machine_lacks_is_no_damage(folder, cache, monkeypatch, error):
    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "load", fail)
        with pytest.raises(RunError, match=r"\.png") as raised:
            load_data("folder", folder, skip_damaged=True)
    assert "damaged" not in str(raised.value)
    assert "kept in" not in str(raised.value)
    assert len(load_data("folder", folder, skip_damaged=True).train) == 4


@pytest.mark.parametrize("name", ["contents.json", "train.images", "test.labels"])
@pytest.mark.parametrize("kind", ["fifo", "endless", "folder"])
def test_files_of_other_kinds_in_the_cache_do_not_hang(folder, cache, name, kind):
    load_data("folder", folder)
    [decoded] = [path for path in cache.iterdir() if path.is_dir()]
    replace(decoded / name, kind)
    with pytest.raises(UserError, match="delete that folder"):
        load_data("folder", folder)


@pytest.mark.parametrize("kind", ["fifo", "endless"])
def test_a_record_of_another_kind_is_written_anew(folder, cache, kind):
    load_data("folder", folder)
    [known] = cache.glob("*.json")
    contents = known.read_bytes()
    replace(known, kind)
    load_data("folder", folder)
    assert known.read_bytes() == contents


@pytest.mark.parametrize("kind", ["fifo", "endless"])
@pytest.mark.parametrize(
    "name", ["cat/new.png", "cat/new", "cat/new.what", "cat/labels.csv", "labels.csv"]
)
def test_files_of_other_kinds_among_pictures_do_not_hang(folder, name, kind):
    replace(folder / name, kind)
    found = load_data("folder", folder, skip_damaged=True)
    assert np.bincount(found.train.labels).tolist() == [2, 2]


def replace(path, kind):
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
