"""Tests what happens to a run whose folder changes while it trains."""

import shutil

import pytest

from cifar_jax import Config, RunError, fit, load_trained, read_run
from cifar_jax.data.dataset import hold_out_validation
from cifar_jax.training.loop import Hook

MESSAGE = "was renamed or deleted during training"


class At(Hook):
    """Does something once, after a step."""

    every = 1

    def __init__(self, step, action):
        self._step, self._action = step, action

    def __call__(self, now):
        if now.step == self._step:
            self._action()


def config(path, **changes):
    sizes = {"max_steps": 8, "batch_size": 8, "log_frequency": 2}
    return Config(train_dir=str(path), model="small", **sizes | changes)


@pytest.mark.parametrize(("kind", "keep_best"), [("renamed", True), ("deleted", False)])
def test_its_state_is_saved_where_it_was(dataset, tmp_path, kind, keep_best):
    path, new = tmp_path / "run", tmp_path / "new"
    changes = {}
    if keep_best:
        changes = {"eval_frequency": 2, "keep_best": True, "validation_size": 8}
        dataset = hold_out_validation(dataset, 8)

    def change():
        if kind == "renamed":
            path.rename(new)
        else:
            shutil.rmtree(path)

    with pytest.raises(RunError, match=rf"{MESSAGE}; step 5 is saved"):
        fit(config(path, **changes), dataset, hooks=[At(4, change)])
    assert load_trained(read_run(path)).step == 5
    whole = fit(config(path, **changes), dataset, log=lambda line: None)
    assert whole.steps == 3
    assert kind == "deleted" or read_run(new).id == read_run(path).id


def test_another_run_in_its_place_is_left_alone(dataset, tmp_path):
    path, other = tmp_path / "run", tmp_path / "other"
    fit(config(other, seed=3), dataset)
    before = {p: p.read_bytes() for p in other.rglob("*") if p.is_file()}

    def change():
        path.rename(tmp_path / "new")
        other.rename(path)

    with pytest.raises(RunError, match=rf"{MESSAGE}, and another run is there"):
        fit(config(path), dataset, hooks=[At(4, change)])
    path.rename(other)
    assert before == {p: p.read_bytes() for p in other.rglob("*") if p.is_file()}
