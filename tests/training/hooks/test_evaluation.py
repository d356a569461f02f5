import dataclasses
import shutil
import signal

import pytest
from helpers import assert_equal_states, make_dataset

from cifar_jax import Config, Stopped, UserError, evaluate, fit, load_trained, read_run
from cifar_jax.data.dataset import hold_out_validation
from cifar_jax.runs import checkpoints
from cifar_jax.training.hooks import evaluation
from cifar_jax.writers import jsonl as summaries


@pytest.fixture(scope="module")
def held_out():
    return hold_out_validation(make_dataset(), 16)


def config(train_dir, **changes) -> Config:
    settings = {"max_steps": 12, "batch_size": 8, "model": "small", "eval_frequency": 5}
    return Config(train_dir=train_dir and str(train_dir), **settings | changes)


def records(run, name):
    return summaries.read_evaluations(run / "eval" / f"{name}.jsonl")


@pytest.mark.slow
def test_evaluations_come_every_so_many_steps_and_at_the_end(dataset, tmp_path):
    lines = []
    result = fit(config(tmp_path / "run"), dataset, log=lines.append)
    for name in ("test", "test_raw"):
        assert [r["step"] for r in records(tmp_path / "run", name)] == [5, 10, 12]
    printed = [line for line in lines if "precision" in line]
    assert len(printed) == 3
    last = records(tmp_path / "run", "test")[-1]
    assert last["num_examples"] == last["examples_in_split"] == len(dataset.test)
    assert result.precision == last["precision_at_1"]
    said = f"step 12, test precision @ 1 = {result.precision:.3f}, with raw"
    assert said in printed[2]


@pytest.mark.slow
def test_precisions_are_those_that_eval_finds(held_out, tmp_path):
    fit(config(tmp_path / "run"), held_out, log=lambda _: None)
    run = read_run(tmp_path / "run")
    for raw, name in ((False, "validation"), (True, "validation_raw")):
        network = load_trained(run, raw_params=raw)
        [*_, last] = records(tmp_path / "run", name)
        assert last["precision_at_1"] == evaluate(network, held_out.validation)


def test_evaluations_change_no_bit_of_the_training(held_out):
    ends = [
        fit(config(None, eval_frequency=n), held_out, log=lambda _: None).state
        for n in (0, 3)
    ]
    assert_equal_states(*ends)


def test_without_averages_parameters_are_evaluated_once(dataset, tmp_path):
    fit(config(tmp_path / "run", average="none"), dataset, log=lambda _: None)
    names = {path.stem for path in (tmp_path / "run" / "eval").glob("*.jsonl")}
    assert names == {"test"}


@pytest.fixture
def correct(monkeypatch):
    """Returns a function that makes evaluations find these numbers of right images."""

    def set_to(by_step):
        def num_correct(logits, labels):
            return by_step[seen[0]]

        seen = [0]
        call = evaluation.Evaluation.__call__

        def remember(self, now):
            seen[0] = now.step
            call(self, now)

        monkeypatch.setattr(evaluation.scores, "num_correct", num_correct)
        monkeypatch.setattr(evaluation.Evaluation, "__call__", remember)

    return set_to


CHOOSE = {"eval_frequency": 2, "average": "none"}


def interrupt(line: str) -> None:
    """Stops a run that logs to this function after step 6."""
    if "step 6, validation" in line:
        signal.raise_signal(signal.SIGTERM)


def test_the_best_checkpoint_is_kept(held_out, tmp_path, correct):
    correct({2: 3, 4: 9, 6: 9, 8: 5, 10: 9, 12: 8})
    kept = config(tmp_path / "run", keep_best=True, **CHOOSE)
    fit(kept, held_out, log=lambda _: None)
    run = read_run(tmp_path / "run")
    assert checkpoints.steps(run.best) == [4]
    assert checkpoints.steps(run.checkpoints) == [12]
    assert load_trained(run, best=True).step == 4
    assert load_trained(run).step == 12


def test_training_stops_after_evaluations_without_progress(held_out, tmp_path, correct):
    correct({2: 3, 4: 9, 6: 9, 8: 5, 10: 9, 12: 8})
    early = config(tmp_path / "run", early_stopping=2, **CHOOSE)
    lines = []
    result = fit(early, held_out, log=lines.append)
    assert int(result.state.step) == 8
    assert checkpoints.steps(read_run(tmp_path / "run").checkpoints) == [8]
    assert lines[-1] == (
        "stopped early at step 8: no progress in 2 evaluations since step 4, "
        "validation precision @ 1 = 0.562 (--early_stopping=2)"
    )
    again = fit(early, held_out, log=lines.append)
    assert int(again.state.step) == 8
    assert lines[-1].startswith("stopped early at step 8")
    patient = dataclasses.replace(early, early_stopping=3)
    assert int(fit(patient, held_out, log=lines.append).state.step) == 10


@pytest.mark.slow
def test_a_resumed_training_keeps_and_stops_what_an_uninterrupted_one_does(
    held_out, tmp_path, correct
):
    correct({2: 3, 4: 9, 6: 7, 8: 10, 10: 9, 12: 10})
    settings = config(tmp_path / "run", keep_best=True, early_stopping=2, **CHOOSE)
    with pytest.raises(Stopped):
        fit(settings, held_out, log=interrupt)
    run = read_run(tmp_path / "run")
    assert (checkpoints.steps(run.best), checkpoints.newest_step(run.checkpoints)) == (
        [4],
        6,
    )
    result = fit(settings, held_out, log=lambda _: None)
    assert int(result.state.step) == 12
    assert checkpoints.steps(run.best) == [8]


@pytest.mark.parametrize("choice", [{"keep_best": True}, {"early_stopping": 3}])
def test_nothing_is_chosen_by_the_test_images(dataset, tmp_path, choice):
    with pytest.raises(UserError, match="relies on validation images, and none are"):
        fit(config(tmp_path / "run", **choice), dataset)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"keep_best": True, "eval_frequency": 1, "writers": "tensorboard"},
            "--keep_best needs jsonl among --writers=tensorboard",
        ),
        ({"keep_best": True}, "--keep_best needs evaluations; pass --eval_frequency"),
        ({"early_stopping": 1}, "--early_stopping needs evaluations"),
        (
            {"keep_best": True, "eval_frequency": 1, "train_dir": None},
            "--keep_best needs a --train_dir",
        ),
    ],
)
def test_settings_that_lack_others_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Config(**settings)


def test_a_best_checkpoint_that_was_not_kept_is_a_user_error(finished_run):
    with pytest.raises(UserError, match=r"no best checkpoint in .*--keep_best"):
        load_trained(read_run(finished_run), best=True)


def test_the_best_is_known_without_the_records(held_out, tmp_path, correct):
    """With another frequency or without the folder `eval`, it is not forgotten."""
    correct({2: 3, 4: 9, 6: 7, 7: 8, 12: 8})
    settings = config(tmp_path / "run", keep_best=True, **CHOOSE)
    with pytest.raises(Stopped):
        fit(settings, held_out, log=interrupt)
    shutil.rmtree(tmp_path / "run" / "eval")
    rarer = dataclasses.replace(settings, eval_frequency=7)
    fit(rarer, held_out, log=lambda _: None)
    assert checkpoints.steps(read_run(tmp_path / "run").best) == [4]


def test_a_damaged_record_is_refused_on_resume(held_out, tmp_path):
    settings = config(tmp_path / "run", early_stopping=3)
    fit(settings, held_out, log=lambda _: None)
    whole = '"num_examples": 16, "examples_in_split": 16'
    path = tmp_path / "run" / "eval" / "validation.jsonl"
    for more in ("", ', "precision_at_1": 1e999', ', "a": []'):
        path.write_text(f'{{"step": 5{more}, {whole}}}\n')
        with pytest.raises(UserError, match=r"validation\.jsonl is damaged"):
            fit(dataclasses.replace(settings, max_steps=13), held_out)
