import os
import pathlib
import resource
import shutil
import subprocess

import flax.struct
import jax
import jax.numpy as jnp
import pytest
from helpers import damages, latest

from cifar_jax import RunError
from cifar_jax.runs import checkpoints, checksums


def state(step: int):
    return {
        "step": jnp.int32(step),
        "params": {"kernel": jax.random.normal(jax.random.key(step), (100, 100))},
        "key": jax.random.key(7),
    }


def same(a, b) -> bool:
    raw = [
        jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, tree)
        for tree in (a, b)
    ]
    return jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), *raw))


def is_key(x) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_round_trip_is_exact(tmp_path):
    checkpoints.save(tmp_path, 3, state(3))
    restored = checkpoints.restore(tmp_path, 3, state(0))
    assert same(restored, state(3))
    assert restored["key"].dtype == jax.random.key(0).dtype


def test_the_newest_few_are_kept(tmp_path):
    for step in range(checkpoints.KEPT + 2):
        checkpoints.save(tmp_path, step, state(step))
    assert checkpoints.steps(tmp_path) == list(range(2, checkpoints.KEPT + 2))
    assert int(latest(tmp_path, state(0))["step"]) == 6


def test_no_checkpoint_is_none(tmp_path):
    assert checkpoints.steps(tmp_path / "missing") == []
    assert latest(tmp_path / "missing", state(0)) is None


@pytest.mark.parametrize("damage", damages().values(), ids=damages())
def test_any_damaged_file_leads_to_the_previous_checkpoint(tmp_path, damage, capsys):
    checkpoints.save(tmp_path, 1, state(1))
    checkpoints.save(tmp_path, 2, state(2))
    kept = {path: path.read_bytes() for path in files(tmp_path / "2")}
    assert len(kept) > 5
    for path, content in kept.items():
        damage(path)
        if path.exists() and path.read_bytes() == content:
            continue  # The file was already empty.
        restored = latest(tmp_path, state(0))
        assert int(restored["step"]) == 1, path
        assert f"checkpoint {tmp_path / '2'} is damaged" in capsys.readouterr().err
        path.write_bytes(content)
    assert int(latest(tmp_path, state(0))["step"]) == 2


@pytest.mark.parametrize("lines", ["", "first", "all but one", "one too many"])
def test_a_list_that_does_not_match_the_files_is_damage(tmp_path, lines):
    checkpoints.save(tmp_path, 1, state(1))
    sums = tmp_path / "1" / "SHA256SUMS"
    listed = sums.read_text().splitlines(keepends=True)
    listed = {
        "": [],
        "first": listed[:1],
        "all but one": listed[:-1],
        "one too many": [*listed, f"{'0' * 64}  missing\n"],
    }[lines]
    sums.write_text("".join(listed))
    # The list alone must not decide which files are checked.
    largest = max(files(tmp_path / "1"), key=lambda path: path.stat().st_size)
    damages()["flipped"](largest)
    with pytest.raises(RunError, match="is damaged"):
        checkpoints.restore(tmp_path, 1, state(0))


def test_a_file_that_is_not_in_the_list_is_damage(tmp_path):
    checkpoints.save(tmp_path, 1, state(1))
    (tmp_path / "1" / "state" / "more").write_text("")
    with pytest.raises(RunError, match=r"state/more is not in SHA256SUMS"):
        checkpoints.restore(tmp_path, 1, state(0))


@pytest.mark.parametrize(
    "name", [".DS_Store", "._manifest.ocdbt", "Thumbs.db", "desktop.ini", ".nfs00a1"]
)
@pytest.mark.parametrize("folder", [".", "state"])
def test_what_operating_systems_leave_is_no_damage(tmp_path, name, folder, capsys):
    checkpoints.save(tmp_path, 1, state(1))
    (tmp_path / "1" / folder / name).write_text("left")
    assert checkpoints.newest_step(tmp_path) == 1
    restored = checkpoints.restore(tmp_path, 1, state(0))
    assert same(restored, state(1))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["SHA256SUMS", "state/manifest.ocdbt"])
def test_anything_but_a_regular_file_is_damage_and_does_not_hang(tmp_path, name):
    checkpoints.save(tmp_path, 1, state(1))
    path = tmp_path / "1" / name
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(RunError, match="is damaged"):
        checkpoints.restore(tmp_path, 1, state(0))


def test_sha256sum_accepts_the_list(tmp_path):
    checkpoints.save(tmp_path, 1, state(1))
    subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"],
        cwd=tmp_path / "1",
        check=True,
    )


def test_all_damaged_is_an_error(tmp_path):
    checkpoints.save(tmp_path, 1, state(1))
    (tmp_path / "1" / "state" / "manifest.ocdbt").unlink()
    with pytest.raises(RunError, match=r"no checkpoint .* can be used"):
        latest(tmp_path, state(0))


def test_a_checkpoint_without_its_list_is_damaged_and_is_replaced(tmp_path, capsys):
    checkpoints.save(tmp_path, 1, state(1))
    checkpoints.save(tmp_path, 2, state(2))
    (tmp_path / "2" / "SHA256SUMS").unlink()
    assert checkpoints.steps(tmp_path) == [1, 2]
    assert checkpoints.newest_step(tmp_path) == 1
    assert "2 is damaged: it has no SHA256SUMS; using" in capsys.readouterr().err
    checkpoints.save(tmp_path, 2, state(5))
    assert same(latest(tmp_path, state(0)), state(5))


@pytest.mark.parametrize("name", ["1.bak", "01", "1 copy", "-2", "2.orbax", "\u0663"])
def test_names_that_are_not_steps_are_ignored(tmp_path, name):
    checkpoints.save(tmp_path, 1, state(1))
    shutil.copytree(tmp_path / "1", tmp_path / name)
    assert checkpoints.steps(tmp_path) == [1]
    assert int(latest(tmp_path, state(0))["step"]) == 1
    checkpoints.save(tmp_path, 2, state(2))
    assert (tmp_path / name / "SHA256SUMS").exists()


def test_leftovers_of_a_killed_save_are_cleaned_up(tmp_path):
    checkpoints.save(tmp_path, 1, state(1))
    debris = [".9.partial", ".9.partial.orbax-checkpoint-tmp", ".0.deleted"]
    for name in debris:
        shutil.copytree(tmp_path / "1", tmp_path / name)
    assert checkpoints.steps(tmp_path) == [1]
    checkpoints.save(tmp_path, 2, state(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_a_checkpoint_gets_its_name_only_when_complete(tmp_path, monkeypatch):
    """A process may be killed between any two of these operations."""
    seen = []
    write = checksums.write

    def watch(folder):
        write(folder)
        seen.append((folder.name, checkpoints.steps(tmp_path)))

    monkeypatch.setattr(checksums, "write", watch)
    checkpoints.save(tmp_path, 7, state(7))
    assert seen == [(".7.partial", [])]
    assert checkpoints.steps(tmp_path) == [7]


def test_another_network_is_an_error(tmp_path):
    checkpoints.save(tmp_path, 1, state(1))
    other = state(0) | {"params": {"other": jnp.zeros(3)}}
    with pytest.raises(RunError, match="cannot load the checkpoint"):
        checkpoints.restore(tmp_path, 1, other)


def test_a_failed_save_names_the_last_good_one(tmp_path):
    checkpoints.save(tmp_path, 1, state(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        # As on a full disk, files cannot grow beyond a limit.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(RunError, match=rf"cannot save .* {tmp_path}/1\b"):
            checkpoints.save(tmp_path, 2, state(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert same(latest(tmp_path, state(0)), state(1))


def truncate(folder: pathlib.Path) -> None:
    largest = max(files(folder), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)


def test_a_failed_save_that_cannot_look_for_another_is_one_line(tmp_path, monkeypatch):
    checkpoints.save(tmp_path, 1, state(1))

    def no_handles(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(pathlib.Path, "iterdir", no_handles)
    with pytest.raises(
        RunError, match=r"step 2 .*open files \(earlier checkpoints are unch"
    ):
        checkpoints.save(tmp_path, 2, state(2))


def test_unusable_checkpoints_do_not_push_out_usable_ones(tmp_path, capsys):
    checkpoints.save(tmp_path, 2, state(2))
    unusable = range(800, 801 + checkpoints.KEPT)
    for step in unusable:
        checkpoints.save(tmp_path, step, state(step), kept=100)
        truncate(tmp_path / str(step))
    assert checkpoints.newest_step(tmp_path) == 2
    for step in range(5, 6 + checkpoints.KEPT):
        checkpoints.save(tmp_path, step, state(step))
        assert checkpoints.newest_step(tmp_path) == step
    # Whatever is unusable may be of use to somebody.
    assert checkpoints.steps(tmp_path) == [*range(6, 6 + checkpoints.KEPT), *unusable]
    checkpoints.save(tmp_path, 900, state(900))
    assert checkpoints.steps(tmp_path) == [*range(7, 11), *unusable, 900]


@pytest.mark.parametrize("run_id", [None, "a"])
def test_a_copy_under_the_name_of_another_step_is_not_used(tmp_path, run_id, capsys):
    checkpoints.save(tmp_path, 12, state(12), "a")
    shutil.copytree(tmp_path / "12", tmp_path / "20261128")
    assert checkpoints.named_steps(tmp_path) == [12, 20261128]
    assert checkpoints.steps(tmp_path, run_id) == [12]
    assert checkpoints.newest_step(tmp_path, run_id) == 12
    assert "20261128 is from step 12; rename it to 12" in capsys.readouterr().err
    with pytest.raises(RunError, match="is from step 12"):
        checkpoints.restore(tmp_path, 20261128, state(0), run_id)


def test_the_step_of_the_state_itself_counts_too(tmp_path):
    @flax.struct.dataclass
    class State:
        step: jax.Array

    checkpoints.save(tmp_path, 12, State(jnp.int32(12)))
    (tmp_path / "12" / "run.json").unlink()  # as earlier versions saved it
    checksums.write(tmp_path / "12")
    (tmp_path / "12").rename(tmp_path / "15")
    assert checkpoints.newest_step(tmp_path, "a") == 15
    with pytest.raises(RunError, match="15 is from step 12; rename it to 12"):
        checkpoints.restore(tmp_path, 15, State(jnp.int32(0)), "a")


def test_a_checkpoint_of_another_run_is_not_used(tmp_path, capsys):
    for directory, run_id in ((tmp_path / "a", "a"), (tmp_path / "b", "b")):
        for step in (1, 2):
            checkpoints.save(directory, step, state(step), run_id)
    shutil.rmtree(tmp_path / "a" / "2")
    shutil.copytree(tmp_path / "b" / "2", tmp_path / "a" / "2")
    assert checkpoints.newest_step(tmp_path / "a", "a") == 1
    assert "2 belongs to another run; move it elsewhere" in capsys.readouterr().err
    assert checkpoints.steps(tmp_path / "a", "a") == [1]
    with pytest.raises(RunError, match="belongs to another run"):
        checkpoints.restore(tmp_path / "a", 2, state(0), "a")
    # It is neither counted nor deleted.
    for step in range(3, 3 + checkpoints.KEPT):
        checkpoints.save(tmp_path / "a", step, state(step), "a")
    assert checkpoints.named_steps(tmp_path / "a") == [
        2,
        *range(3, 3 + checkpoints.KEPT),
    ]


@pytest.mark.parametrize("contents", ["", "[]", "{}", "12", '{"step": "12"}', "\0"])
def test_a_changed_record_is_damage(tmp_path, contents):
    checkpoints.save(tmp_path, 12, state(12), "a")
    (tmp_path / "12" / "run.json").write_text(contents)
    with pytest.raises(RunError, match=r"no checkpoint .*run\.json has changed"):
        checkpoints.newest_step(tmp_path, "a")


def test_a_link_to_an_old_checkpoint_does_not_fail_the_save(tmp_path):
    checkpoints.save(tmp_path / "there", 1, state(1))
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "1").symlink_to(tmp_path / "there" / "1")
    for step in range(2, 3 + checkpoints.KEPT):
        checkpoints.save(tmp_path / "here", step, state(step))
    assert checkpoints.named_steps(tmp_path / "here") == [
        *range(3, 3 + checkpoints.KEPT)
    ]
    assert checkpoints.newest_step(tmp_path / "there") == 1


def test_an_old_one_that_cannot_be_deleted_does_not_fail_the_save(
    tmp_path, capsys, monkeypatch
):
    def busy(path):
        raise OSError(16, "Device or resource busy")

    checkpoints.save(tmp_path, 1, state(1))
    monkeypatch.setattr(shutil, "rmtree", busy)
    checkpoints.save(tmp_path, 2, state(2), kept=1)
    assert "cannot delete an old checkpoint: [Errno 16]" in capsys.readouterr().err
    assert checkpoints.newest_step(tmp_path) == 2


def test_the_only_one_replaces_later_ones_too(tmp_path):
    checkpoints.save(tmp_path, 900, state(900), kept=1)
    checkpoints.save(tmp_path, 700, state(700), kept=1, correct=5)
    assert checkpoints.steps(tmp_path) == [700]
    assert checkpoints.facts(tmp_path, 700)["correct"] == 5
