import pathlib
import resource

import jax
import jax.numpy as jnp
import pytest
from helpers import latest

from cifar_jax import RunError, checkpoints


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


def damages():
    def flip(path):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    def truncate(path):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return {"flipped": flip, "truncated": truncate, "missing": pathlib.Path.unlink}


@pytest.mark.parametrize("damage", damages().values(), ids=damages())
def test_any_damaged_file_leads_back_to_the_checkpoint_before(tmp_path, damage, capsys):
    checkpoints.save(tmp_path, 1, state(1))
    checkpoints.save(tmp_path, 2, state(2))
    kept = {path: path.read_bytes() for path in files(tmp_path / "2")}
    assert len(kept) > 5
    for path, content in kept.items():
        damage(path)
        restored = latest(tmp_path, state(0))
        assert int(restored["step"]) == 1, path
        # Without its list a checkpoint counts as never finished.
        if not (damage is pathlib.Path.unlink and path.name == "SHA256SUMS"):
            assert str(tmp_path / "2") in capsys.readouterr().err
        path.write_bytes(content)
    assert int(latest(tmp_path, state(0))["step"]) == 2


def test_all_damaged_is_an_error(tmp_path):
    checkpoints.save(tmp_path, 1, state(1))
    (tmp_path / "1" / "state" / "manifest.ocdbt").unlink()
    with pytest.raises(RunError, match=r"no checkpoint .* can be used"):
        latest(tmp_path, state(0))


def test_a_checkpoint_cut_off_is_no_checkpoint_and_is_replaced(tmp_path):
    checkpoints.save(tmp_path, 1, state(1))
    checkpoints.save(tmp_path, 2, state(2))
    (tmp_path / "2" / "SHA256SUMS").unlink()
    assert checkpoints.steps(tmp_path) == [1]
    checkpoints.save(tmp_path, 2, state(5))
    assert same(latest(tmp_path, state(0)), state(5))


def test_what_a_killed_save_left_is_cleaned_up(tmp_path):
    checkpoints.save(tmp_path, 1, state(1))
    debris = tmp_path / "9.orbax-checkpoint-tmp"
    debris.mkdir()
    assert checkpoints.steps(tmp_path) == [1]
    checkpoints.save(tmp_path, 2, state(2))
    assert not debris.exists()


def test_another_network_is_an_error(tmp_path):
    checkpoints.save(tmp_path, 1, state(1))
    other = state(0) | {"params": {"other": jnp.zeros(3)}}
    with pytest.raises(RunError, match="cannot load the checkpoint"):
        checkpoints.restore(tmp_path, 1, other)


def test_a_failed_save_names_the_last_good_one(tmp_path):
    checkpoints.save(tmp_path, 1, state(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        # As on a full disk, files end where they may grow no more.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(RunError, match=rf"cannot save .* {tmp_path}/1\b"):
            checkpoints.save(tmp_path, 2, state(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert same(latest(tmp_path, state(0)), state(1))
