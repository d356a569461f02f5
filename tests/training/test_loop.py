"""Tests the loop and what fit() makes of one's own hooks."""

import contextlib
import json
import re

import numpy as np
import pytest
from helpers import silent

from cifar_jax import Config, Hook, RunError, UserError, fit, predict_logits
from cifar_jax.metrics import scores
from cifar_jax.runs import checkpoints
from cifar_jax.writers import jsonl


def config(train_dir, **changes) -> Config:
    values = {"max_steps": 12, "batch_size": 8, "log_frequency": 100, "model": "small"}
    train_dir = None if train_dir is None else str(train_dir)
    return Config(train_dir=train_dir, **values | changes)


class Seen(Hook):
    """Keeps the steps at which it is called, and what was measured there."""

    def __init__(self, every=None):
        self.every = every
        self.steps = []
        self.metrics = []

    def __call__(self, now):
        self.steps.append(now.step)
        self.metrics.append(now.metrics)
        assert int(now.state.step) == now.step


def test_a_hook_is_called_at_its_steps_and_calls_of_the_devices_end_there(dataset):
    fifth, all_ = Seen(5), Seen()
    fit(config(None), dataset, silent, hooks=[fifth, all_])
    assert fifth.steps == [5, 10]
    # The first step is logged.
    assert all_.steps == [1, 5, 10, 12]
    assert set(all_.metrics[0]) == {
        *("cross_entropy", "hidden/weight_loss", "total_loss")
    }


def test_hooks_change_no_bit_of_the_training(dataset):
    ends = [
        fit(config(None), dataset, silent, hooks=hooks).state.params["head"]["kernel"]
        for hooks in ([], [Seen(1)], [Seen(5), Seen(7)])
    ]
    for end in ends[1:]:
        np.testing.assert_array_equal(end, ends[0])


def test_the_metrics_that_are_asked_for_are_given_logged_and_summarized(
    dataset, tmp_path
):
    names = "grad_norm, update_norm, param_norm, accuracy"
    asked = config(tmp_path, metrics=names, summary_frequency=6, log_frequency=4)
    lines, seen = [], Seen(12)
    fit(asked, dataset, lines.append, hooks=[seen])
    first, *_ = (line for line in lines if ": step 0, loss" in line)
    assert [word.split(" = ")[0] for word in first.split(", ")[-4:]] == names.split(
        ", "
    )
    records = jsonl.read_training(tmp_path / "train.jsonl")
    assert [record["step"] for record in records] == [0, 6]
    for record in records:
        assert record["update_norm"] > 0.0
        assert 0 <= record["accuracy"] <= 1
    (last,) = seen.metrics
    assert last["grad_norm"] > 0
    # Nothing that is measured is part of the state.
    other = fit(config(None), dataset, silent).state
    assert set(other.loss_averages) == {
        *("cross_entropy", "hidden/weight_loss", "total_loss")
    }


class TopTwo(Hook):
    every = 6

    def __init__(self, split):
        self.split = split

    def __call__(self, now):
        logits = predict_logits(now.to_trained(), self.split.images)
        top = scores.accuracy_at(2, logits, self.split.labels)
        return {"test/top_2": top, "loss": now.metrics["total_loss"]}


def test_what_a_hook_returns_is_logged_and_written(dataset, tmp_path):
    lines = []
    result = fit(config(tmp_path), dataset, lines.append, [TopTwo(dataset.test)])
    records = jsonl.read_training(tmp_path / "hooks.jsonl")
    assert [record["step"] for record in records] == [6, 12]
    logits = predict_logits(result.trained, dataset.test.images)
    expected = scores.accuracy_at(2, logits, dataset.test.labels)
    assert records[-1]["test/top_2"] == expected
    (line,) = (line for line in lines if "step 12, test/top_2" in line)
    assert f"step 12, test/top_2 = {expected:.4g}, loss = " in line
    events = b"".join(p.read_bytes() for p in tmp_path.glob("events.*"))
    assert b"test/top_2" in events


class Failing(Hook):
    every = 5

    def __init__(self, error):
        self.error = error

    def __call__(self, now):
        raise self.error


@pytest.mark.parametrize(
    "error", [ValueError("of my own"), KeyboardInterrupt(), RunError("disk full")]
)
def test_whatever_a_hook_raises_the_state_is_saved_first(dataset, tmp_path, error):
    with pytest.raises(type(error)):
        fit(config(tmp_path), dataset, silent, hooks=[Failing(error)])
    assert checkpoints.steps(tmp_path / "checkpoints") == [5]
    whole = fit(config(None), dataset, silent)
    resumed = fit(config(tmp_path), dataset, silent)
    np.testing.assert_array_equal(
        resumed.state.params["head"]["kernel"], whole.state.params["head"]["kernel"]
    )


def test_an_error_while_a_call_is_prepared_saves_too(dataset, tmp_path):
    class Undecided(Hook):
        def due(self, step):
            if step >= 4:
                raise ZeroDivisionError
            return 4

        def __call__(self, now):
            return None

    with pytest.raises(ZeroDivisionError):
        fit(config(tmp_path), dataset, silent, hooks=[Undecided()])
    assert checkpoints.steps(tmp_path / "checkpoints") == [4]


def test_a_hook_can_stop_the_run(dataset, tmp_path):
    class Enough(Hook):
        every = 4

        def __call__(self, now):
            now.stop("it is good enough")

    lines = []
    result = fit(config(tmp_path), dataset, lines.append, hooks=[Enough()])
    assert int(result.state.step) == result.steps == 4
    assert checkpoints.steps(tmp_path / "checkpoints") == [4]
    assert lines[-1] == "stopped early at step 4: it is good enough"


def test_hooks_are_contexts_that_end_after_errors_too(dataset):
    entered = []

    class Context(Failing):
        def __enter__(self):
            entered.append("in")
            return self

        def __exit__(self, kind, *_):
            entered.append(kind)

    with contextlib.suppress(ValueError):
        fit(config(None), dataset, silent, hooks=[Context(ValueError())])
    assert entered == ["in", ValueError]


@pytest.mark.wrong_types
@pytest.mark.parametrize("returned", ["0.5", {"a": "much"}, {"a": [1, 2]}, [0.5]])
def test_what_is_not_numbers_by_name_is_refused(dataset, tmp_path, returned):
    class Wrong(Hook):
        every = 5

        def __call__(self, now):
            return returned

    with pytest.raises(UserError, match=r"Wrong returned .*, not numbers by name"):
        fit(config(tmp_path), dataset, silent, hooks=[Wrong()])
    assert checkpoints.steps(tmp_path / "checkpoints") == [5]


def test_a_call_that_would_not_advance_is_refused(dataset):
    class Stuck(Seen):
        def due(self, step):
            return step

    with pytest.raises(UserError, match=r"Stuck\.due\(0\) is 0; it must be later"):
        fit(config(None), dataset, silent, hooks=[Stuck()])


def test_several_hooks_of_one_step_are_one_record(dataset, tmp_path):
    class Named(Hook):
        every = 6

        def __init__(self, name):
            self.name = name

        def __call__(self, now):
            return {self.name: now.step}

    fit(config(tmp_path), dataset, silent, hooks=[Named("a"), Named("b")])
    lines = (tmp_path / "hooks.jsonl").read_text().splitlines()
    assert [(json.loads(x)["a"], json.loads(x)["b"]) for x in lines] == [
        *((6, 6), (12, 12))
    ]


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        (Seen(), "hooks must be a list of"),
        ([Seen], "which is not a cifar_jax.Hook"),
        ([print], "which is not a cifar_jax.Hook"),
        ([Seen(0)], "Seen.every=0 must be at least 1"),
        ([Seen(2.5)], "Seen.every=2.5 must be an integer"),
    ],
)
def test_what_is_no_hook_is_refused(dataset, hooks, message):
    with pytest.raises(UserError, match=re.escape(message)):
        fit(config(None), dataset, silent, hooks=hooks)


def test_a_hook_may_stop_without_a_reason(dataset):
    class Enough(Hook):
        every = 4

        def __call__(self, now):
            now.stop(None)

    assert fit(config(None), dataset, silent, hooks=[Enough()]).steps == 4


@pytest.mark.parametrize("name", ["step", "time", 1])
def test_reserved_names_are_refused(dataset, name):
    class Reserved(Hook):
        every = 4

        def __call__(self, now):
            return {name: 1.0}

    with pytest.raises(UserError, match="Reserved returned a number called"):
        fit(config(None), dataset, silent, hooks=[Reserved()])
